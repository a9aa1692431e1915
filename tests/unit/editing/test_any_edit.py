"""Whatever is edited, wherever: the rest of the text stays, comments above all."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.source_events import libyaml_events, python_events
from kloros_infra.editing.edits import Address, AppendItem, Edit, Remove, SetValue
from kloros_infra.editing.nodes import Kind, Node, node_data, read_nodes
from kloros_infra.editing.texts import edit_text
from tests.unit.editing.test_render import SCALARS, VALUES
from tests.unit.editing.test_texts import LAPTOP, NASTY, ROOT

FLOWING = """\
a: [1, [2, 3], {b: 4}]   # one
c: {
  d: 5,  # five

  e: [
    6,
    7
  ],
}
f:
- - 8
  - {g: 9}
-
  h: 10
# the end
"""
TEXTS = (ROOT, LAPTOP, NASTY, FLOWING)


def addresses(node: Node, at: Address = ()) -> Iterator[tuple[Address, Node]]:
    """List every place in a text, but for those that repeat others."""
    yield at, node
    if node.kind is Kind.LIST:
        for place, item in enumerate(node.items):
            yield from addresses(item, (*at, place))
    for key, value in node.entries:
        yield from addresses(value, (*at, key.text))


PLACES = [(text, at, node.kind) for text in TEXTS for at, node in addresses(read_nodes(text).root)]
LEAVES = [(text, at) for text, at, kind in PLACES if kind is Kind.SCALAR]
LISTS = [(text, at) for text, at, kind in PLACES if kind is Kind.LIST]
MAPPINGS = [(text, at) for text, at, kind in PLACES if kind is Kind.MAPPING]


def comments(text: str) -> Counter[str]:
    return Counter(re.findall(r"(?:^|(?<=\s))#.*", text, re.MULTILINE))


def difference(before: str, after: str) -> tuple[list[str], list[str]]:
    """Give the lines that went and those that came."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    return [line[1:] for line in lines if line[0] == "-"], [line[1:] for line in lines if line[0] == "+"]


def made(text: str, edit: Edit) -> str:
    """Make an edit; where it is refused, the text stays."""
    after, problems = edit_text(text, [edit], file="models.yaml")
    assert (after is None) == bool(problems)
    return text if after is None else after


@given(st.sampled_from(LEAVES), SCALARS)
def test_setting_a_value_touches_its_own_lines(place: tuple[str, Address], value: Any) -> None:
    text, at = place
    after = made(text, SetValue(at, value))
    went, _ = difference(text, after)
    assert comments(text) <= comments(after)
    assert len(went) <= 4


@given(st.sampled_from(LISTS), VALUES)
def test_appending_touches_one_line_at_most(place: tuple[str, Address], value: Any) -> None:
    text, at = place
    after = made(text, AppendItem(at, value))
    went, _ = difference(text, after)
    assert comments(text) <= comments(after)
    assert len(went) <= 1


@given(st.sampled_from(MAPPINGS), VALUES)
def test_a_new_key_touches_one_line_at_most(place: tuple[str, Address], value: Any) -> None:
    text, at = place
    after = made(text, SetValue((*at, "brand new"), value))
    went, _ = difference(text, after)
    assert comments(text) <= comments(after)
    assert len(went) <= 1


@pytest.mark.parametrize(("text", "at"), [(text, at) for text, at, _ in PLACES])
def test_removing_leaves_everything_else(text: str, at: Address) -> None:
    after = made(text, Remove(at))
    _, came = difference(text, after)
    assert len(came) <= 2


@pytest.mark.parametrize("text", TEXTS)
def test_both_parsers_see_the_same_places(text: str) -> None:
    fast, slow = read_nodes(text, events=libyaml_events), read_nodes(text, events=python_events)
    assert fast == slow
    assert node_data(fast.root) == node_data(slow.root)


@pytest.mark.parametrize("text", TEXTS)
def test_every_value_begins_and_ends_where_its_text_does(text: str) -> None:
    for _, node in addresses(read_nodes(text).root):
        # Line breaks that a block scalar keeps are its own.
        own = text[node.start : node.end].removesuffix("\n\n\n")
        assert own == own.strip()
