"""What differs inside routing.json, scripts and links."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.ir.plan import KeyChange
from kloros_infra.planner.text_keys import artifact_changes, json_keys, line_changes, text_changes


def test_members_of_lists_go_by_their_names() -> None:
    text = '{"models": [{"id": "a", "n": 1, "ups": [{"instance": "a-max", "port": 1}]}, {"n": 2}, [3]], "l": [1, "é"]}'
    assert json_keys(text) == {
        "models.a.id": '"a"',
        "models.a.n": "1",
        "models.a.ups.a-max.instance": '"a-max"',
        "models.a.ups.a-max.port": "1",
        "models.1.n": "2",
        "models.2": "[3]",
        "l": '[1, "é"]',
    }


@pytest.mark.parametrize("text", ["", "{oops", "[" * 100_000, '{"a": ' * 5000 + "1" + "}" * 5000, "9" * 5000])
def test_what_is_no_json_or_too_deep_is_compared_by_line(text: str) -> None:
    assert json_keys(text) is None
    assert text_changes(text, '{"a": 1}')[0].key == "line 1"


def test_json_is_compared_by_key() -> None:
    assert text_changes('{"a": 1}', '{\n"a": 2}') == (KeyChange("a", "1", "2"),)


def test_lines_are_numbered_as_in_the_new_text() -> None:
    assert line_changes("a\nb\nc\n", "a\nB\nc\nd\n") == (KeyChange("line 2", "b", "B"), KeyChange("line 4", None, "d"))
    assert line_changes("a\nb\nc\n", "a\n") == (KeyChange("line 2", "b", None), KeyChange("line 3", "c", None))


@given(st.text("ab\n"), st.text("ab\n"))
def test_lines_differ_exactly_when_there_are_changes(before: str, after: str) -> None:
    assert bool(line_changes(before, after)) is (before.splitlines() != after.splitlines())


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (Link("a"), Link("b"), (KeyChange("link", "a", "b"),)),
        (Link("a"), TextFile("x"), (KeyChange("kind", "link to a", "file"),)),
        (TextFile("x"), Link("a"), (KeyChange("kind", "file", "link to a"),)),
        (TextFile("x"), TextFile("x", 0o600), (KeyChange("mode", "0644", "0600"),)),
        (TextFile("x"), TextFile("y"), (KeyChange("line 1", "x", "y"),)),
    ],
)
def test_artifacts_differ_by_kind_mode_and_content(
    before: Artifact, after: Artifact, changes: tuple[KeyChange, ...]
) -> None:
    assert artifact_changes(before, after) == changes


def test_a_member_that_comes_or_goes_is_one_line() -> None:
    old = json.dumps({"models": [{"id": "a.1", "port": 1, "more": {"x": 1}}, {"id": "b"}], "rows": [1], "list": [[1]]})
    new = json.dumps({"models": [{"id": "b"}, {"id": "a", "port": 2}], "rows": [2], "list": [[1]]})
    assert text_changes(old, new) == (
        KeyChange("models.a", None, "(2 keys)"),
        KeyChange("models.a.1", "(3 keys)", None),
        KeyChange("rows", "[1]", "[2]"),
    )
    assert text_changes("[1]", "[2]") == (KeyChange("", "[1]", "[2]"),)
