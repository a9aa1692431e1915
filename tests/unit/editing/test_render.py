"""New text reads back as the data it was made from, and needs no more quotes than it must."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from kloros_infra.editing.edits import Value
from kloros_infra.editing.nodes import node_data, read_nodes
from kloros_infra.editing.render import block_text, scalar_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS: st.SearchStrategy[Any] = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["no", "1.10", "12:30:45", "~", "<<", "- a", "a: b", "#", "a\nb\n", "2025-11-17", "0o7", "1e3"]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_is_written_reads_back(value: dict[str, Any]) -> None:
    assert repr(node_data(read_nodes(block_text(value)).root)) == repr(value)


def test_a_whole_file_is_written_in_one_manner() -> None:
    value: Value = {
        "version": 1,
        "hosts": {"laptop": {"role": "local"}},
        "models": [
            {
                "id": "a",
                "aliases": ["q:7b", "no"],
                "versions": [{"version_id": "2025-11-17-01", "gguf_url": "hf://a/b/c.gguf"}],
                "profiles": {"max": {"port": 1, "gpu_percentages": [80, 20]}, "cpu_only": None},
                "system_prompt": "Hello\n\n there\n",
                "arguments": {},
            }
        ],
    }
    assert block_text(value) == (
        "version: 1\n"
        "hosts:\n"
        "  laptop: {role: local}\n"
        "models:\n"
        "  - id: a\n"
        '    aliases: [q:7b, "no"]\n'
        "    versions:\n"
        "      - version_id: 2025-11-17-01\n"
        "        gguf_url: hf://a/b/c.gguf\n"
        "    profiles:\n"
        "      max: {port: 1, gpu_percentages: [80, 20]}\n"
        "      cpu_only: null\n"
        "    system_prompt: |\n"
        "      Hello\n"
        "\n"
        "       there\n"
        "    arguments: {}\n"
    )
    assert YAML(typ="safe").load(block_text(value)) == value


def test_indentation_is_that_of_the_place() -> None:
    assert block_text({"a": [{"b": 1}]}, indent=4) == "    a:\n      - b: 1\n"


@pytest.mark.parametrize("word", ["no", "yes", "on", "12:30:45", "1_000", "0x1F", "1e3", ".inf", "2025-11-17", "", "~"])
def test_what_some_reader_takes_for_something_else_is_quoted(word: str) -> None:
    assert scalar_text(word, "") == f'"{word}"'
    assert scalar_text(word, "'") == f"'{word}'"


@pytest.mark.parametrize("word", ["2025-11-17-01", "hf://a/b/c.gguf", "Qwen 2.5 7B", "été", "a,b", "it's"])
def test_what_everyone_takes_for_text_is_not(word: str) -> None:
    assert scalar_text(word, "") == word
    assert scalar_text("a,b", "", is_inside=True) == '"a,b"'


def test_single_quotes_cannot_hold_everything() -> None:
    assert scalar_text("a\nb", "'") == '"a\\nb"'
