"""Any text becomes a name, and no name is given twice."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.names import NAME_PATTERN, as_name, unused


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen2.5-Coder:7B", "qwen2.5-coder-7b"),
        ("jo/Mario", "jo-mario"),
        ("-odd-", "odd"),
        ("模型", ""),
        ("a" * 80, "a" * 64),
        (f"{'a' * 63}-b", "a" * 63),
    ],
)
def test_any_text_becomes_a_name(text: str, name: str) -> None:
    assert as_name(text) == name


@given(st.text(max_size=200))
def test_what_becomes_of_a_text_is_a_name_or_nothing(text: str) -> None:
    name = as_name(text)
    assert not name or re.fullmatch(NAME_PATTERN, name)


def test_a_taken_name_gets_a_number() -> None:
    assert unused("code", ()) == "code"
    assert unused("code", {"code"}) == "code-2"
    assert unused("code", {"code", "code-2"}) == "code-3"
    assert len(unused("a" * 64, {"a" * 64})) <= 64
