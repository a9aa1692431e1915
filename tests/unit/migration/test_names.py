"""Names of other programs become names of ours, whatever they hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.names import NAME_PATTERN
from kloros_infra.migration.names import aliases_of, as_name, is_alias, is_name, on_one_line, unused


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen2.5-Coder:7B", "qwen2.5-coder-7b"),
        ("jo/Mario", "jo-mario"),
        ("-odd-", "odd"),
        ("模型", "model"),
        ("a" * 80, "a" * 64),
        (f"{'a' * 63}-b", "a" * 63),
    ],
)
def test_any_text_becomes_a_name(text: str, name: str) -> None:
    assert as_name(text) == name


@given(st.text(max_size=200))
def test_what_becomes_of_a_text_is_a_name(text: str) -> None:
    assert re.fullmatch(NAME_PATTERN, as_name(text))
    assert is_name(as_name(text))


@given(st.text(max_size=400))
def test_what_stays_on_one_line_is_printable(text: str) -> None:
    line = on_one_line(text)
    assert line.isprintable()
    assert line == line.strip()


def test_a_taken_name_gets_a_number() -> None:
    assert unused("code", ()) == "code"
    assert unused("code", {"code"}) == "code-2"
    assert unused("code", {"code", "code-2"}) == "code-3"
    assert len(unused("a" * 64, {"a" * 64})) <= 64


def test_latest_is_no_name_of_its_own() -> None:
    assert aliases_of(["llama3.2:latest", "llama3.2:3b", "llama3.2"], ["llama3.2"]) == (("llama3.2:3b",), ())


def test_names_that_no_alias_can_be_are_told_apart() -> None:
    assert aliases_of(["_odd", "good"], []) == (("good",), ("_odd",))
    assert not is_alias("with blank")
