"""What is written as YAML reads back as the same values, here and by readers of YAML 1.1."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.source import read
from kloros_infra.compiler.yaml_lines import FLOW_WIDTH, flow_text, scalar_text, yaml_lines

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00")) | st.sampled_from(
    ["no", "12:30:45", "2025-11-17", "0x1f", "0o17", "010", "1e3", "1_000", "null", "~", "", " a", "a ", "a: b", "a #b",
     "- a", "? a", "%a", "@a", "`a", "!a", "&a", "*a", "a\nb", "a\nb\n", "a\n\nb\n\n", "\n", " a\nb", "a\n b\n",
     "12GiB", "360 GB/s", "80%", "5m", "hf://a/b@c/d", "/opt/x", "<<", "=", ".inf", "y", "On", "a, b", "[a", "}"]
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e6, 1e6) | texts
keys = texts.filter(lambda key: key != "<<" and len(key) < 100)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))


def written(value: Any) -> str:
    return "\n".join(line.text for line in yaml_lines(value)) + "\n"


@given(st.dictionaries(keys, values, min_size=1, max_size=4))
def test_what_is_written_reads_back_as_the_same_values(value: dict[str, Any]) -> None:
    source, problems = read(written(value), file="models.yaml")

    assert source is not None, problems
    assert source.tree == value


@given(texts)
def test_readers_of_yaml_1_1_read_the_same_text(text: str) -> None:
    assert yaml.safe_load(written({"key": text, "list": [text]})) == {"key": text, "list": [text]}


@given(st.dictionaries(keys, values, min_size=1, max_size=4))
def test_each_value_is_on_the_line_that_has_its_address(value: dict[str, Any]) -> None:
    for line in yaml_lines(value):
        if line.address is None:
            continue
        part: Any = value
        for key in line.address:
            part = part[key]
        shown = line.text.strip().removeprefix("- ")
        assert shown.endswith((flow_text(part), " |", " |-"))


def test_the_style_is_that_of_files_written_by_hand() -> None:
    value = {
        "hosts": {"box": {"role": "local"}},
        "profiles": {"cpu_only": {"gpus": []}, "mid": None},
        "models": [{"id": "small", "aliases": ["small:7b", "fast"], "versions": [{"version_id": "1"}]}],
        "prompt": "One.\nTwo.\n",
        "share": 0.5,
    }
    assert (
        written(value)
        == """\
hosts:
  box:
    role: local
profiles:
  cpu_only:
    gpus: []
  mid: null
models:
  - id: small
    aliases: ["small:7b", fast]
    versions:
      - version_id: "1"
prompt: |
  One.
  Two.
share: 0.5
"""
    )


def test_a_long_list_has_a_line_for_each_item() -> None:
    items = ["a" * (FLOW_WIDTH // 2)] * 3

    assert written({"list": items}) == "list:\n" + f"  - {items[0]}\n" * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"threads": 8, "no-mmap": True}, "{threads: 8, no-mmap: true}"),
        ({}, "{}"),
        ([["a"], {"b": "c:d"}], '[[a], {b: "c:d"}]'),
    ],
)
def test_values_can_stand_on_one_line(value: Any, text: str) -> None:
    assert flow_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5m", "5m"),
        ("12 GiB", "12 GiB"),
        ("2025-11-17", '"2025-11-17"'),
        ("off", '"off"'),
        ('say "a\\b"\t', '"say \\"a\\\\b\\"\\t"'),
        ("\x85", '"\\U00000085"'),
        (False, "false"),
        (None, "null"),
        (0.2, "0.2"),
    ],
)
def test_text_is_in_quotes_where_it_would_be_something_else(value: Any, text: str) -> None:
    assert scalar_text(value) == text
