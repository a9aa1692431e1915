"""Syntax errors in words of our own, the same from libyaml and from PyYAML's own parser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kloros_infra.compiler import source_events
from kloros_infra.compiler.source import read
from kloros_infra.compiler.source_encoding import decode
from kloros_infra.compiler.source_events import Events, libyaml_events, parser_events, python_events
from kloros_infra.compiler.source_syntax import syntax
from kloros_infra.diagnostics import Problems

CASES = sorted((Path(__file__).parents[2] / "cases" / "diagnostics").rglob("*.yaml"))
PARSERS = pytest.mark.parametrize("events", [libyaml_events, python_events], ids=["libyaml", "python"])


def read_by(events: Events, text: str) -> tuple[Any, Problems]:
    found, told = read(text, file="m.yaml", events=events)
    return (None if found is None else found.tree), told


def test_libyaml_is_used_where_it_is_there() -> None:
    assert yaml.__with_libyaml__
    assert parser_events is libyaml_events


@PARSERS
@pytest.mark.parametrize(
    ("text", "place", "detail", "hint"),
    [
        ("a: 'x\n", "m.yaml:1:4", "never closed", "Close it"),
        ("a: [1,\n  2\n", "m.yaml:1:4", "bracket that is opened here is never closed", "Close"),
        ("a: {b: 1\n# end\n", "m.yaml:1:4", "bracket that is opened here is never closed", "Close"),
        ("a: [1\nb: 2\nc: 3\n", "m.yaml:2:2", "opened in line 1", "Close the bracket"),
        ("a: ['x' 1]\n", "m.yaml:1:9", "A comma", "comma"),
        ("a: [\n", "m.yaml:1:5", "The file ends here", "close all brackets"),
        ("a: b: c\n", "m.yaml:1:5", "A colon", "quotes"),
        ("a:\n\tb: 1\n", "m.yaml:2:1", "tab", "spaces"),
        ("a: |\n\tb\n", "m.yaml:2:1", "tab", "spaces"),
        ("a: b\n\tc\n", "m.yaml:2:1", "tab", "spaces"),
        ("a: @b\n", "m.yaml:1:4", "cannot begin with @", "quotes"),
        ("a: `b`\n", "m.yaml:1:4", "cannot begin with `", "quotes"),
        ("a: %b\n", "m.yaml:1:4", "cannot begin with %", "quotes"),
        ("a: 1\nb\nc: 2\n", "m.yaml:2:1", "has no colon", "`key: value`"),
        ("a: 1\n- 2\n", "m.yaml:2:1", "mapping that begins in line 1", "indentation"),
        ("- 1\na: 2\n", "m.yaml:2:1", "list that begins in line 1", "indentation"),
        ("a: 1\n  b: 2\n", "m.yaml:2:4", "A colon", "indentation"),
        ("a: - 1\n", "m.yaml:1:4", "item of a list", "line of its own"),
        ("a: ? b\n", "m.yaml:1:4", "question mark", "quotes"),
        ("a: ]\n", "m.yaml:1:4", "Something is missing", "brackets"),
        ("a: *.gguf\n", "m.yaml:1:4", "A name must follow", "quotes"),
        ("a: & b\n", "m.yaml:1:4", "A name must follow", "quotes"),
        ("a: |b\n", "m.yaml:1:4", "After | and >", "next line"),
        ("a: >0\n b\n", "m.yaml:1:4", "After | and >", "next line"),
        ("a: 'b\n---\n'\n", "m.yaml:2:1", "Quoted text cannot", "indent"),
        ("a: 'it's'\n", "m.yaml:1:8", "Quoted text ends before", "twice"),
        ('a: "b" c\n', "m.yaml:1:8", "Quoted text ends before", "twice"),
        ('ä: "\\q"\n', "m.yaml:1:5", "The escape \\q", "\\\\"),
        ('😀: "\\xzz"\n', "m.yaml:1:5", "The escape \\x", "\\\\"),
        ('a: "b\r\n  \\ud800"\n', "m.yaml:2:3", "The escape \\ud800", "character itself"),
        ('a: "c\\U0000dfff"\n', "m.yaml:1:6", "The escape \\U0000dfff", "character itself"),
        ('a: "\\\\ud800 \\ud800"\n', "m.yaml:1:13", "The escape \\ud800", "character itself"),
        ('a: "\\U00110000"\n', "m.yaml:1:5", "The escape \\U00110000", "\\\\"),
        ('a: "\\UFFFFFFFF"\n', "m.yaml:1:5", "The escape \\UFFFFFFFF", "\\\\"),
        ('a: "\\', "m.yaml:1:5", "The escape \\", "\\\\"),
        ("a: 1\n  \n  # c\n b: [", "m.yaml:4:2", "mapping that begins in line 1", "indentation"),
    ],
)
def test_syntax_errors_are_located_with_a_remedy(events: Events, text: str, place: str, detail: str, hint: str) -> None:
    _, told = read_by(events, text)

    assert [(problem.code, str(problem.span)) for problem in told] == [("KI101", place)]
    assert detail in told[0].detail
    assert hint in told[0].hint


@PARSERS
@pytest.mark.parametrize("text", ["a: !<b 1\n", "a: !e!b 1\n", "a: !b[ 1\n", "a: !b!c!d 1\n"])
def test_tags_that_cannot_be_read_are_tags(events: Events, text: str) -> None:
    _, told = read_by(events, text)

    assert ("KI107", "m.yaml:1:4") in [(problem.code, str(problem.span)) for problem in told]


def test_libyaml_wants_a_space_after_every_colon() -> None:
    _, (problem,) = read_by(libyaml_events, "{a: 1, b:}\n")

    assert (problem.code, str(problem.span)) == ("KI101", "m.yaml:1:9")
    assert "without a space" in problem.detail


@PARSERS
def test_a_directive_where_none_can_be_is_one(events: Events) -> None:
    _, told = read_by(events, "a: 1\n%TAG ! x\n")

    assert [(problem.code, str(problem.span)) for problem in told] == [("KI107", "m.yaml:2:1")]


def test_a_message_that_no_rule_knows_is_shown_at_its_place() -> None:
    mark = yaml.Mark("", 2, 0, 2, None, 0)
    error = yaml.MarkedYAMLError("while doing so", None, "something went wrong", mark)

    problem = syntax("m.yaml", "a: b\n", error)

    assert (problem.code, str(problem.span)) == ("KI101", "m.yaml:1:3")


@pytest.mark.parametrize("file", CASES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_both_parsers_say_the_same_of_every_case(file: Path) -> None:
    text, _ = decode(file.read_bytes(), file="m.yaml")

    if text is not None:
        # As text, for .nan is not equal to itself.
        assert str(read_by(libyaml_events, text)) == str(read_by(python_events, text))


def test_only_escapes_make_half_characters() -> None:
    event = yaml.ScalarEvent(None, None, (False, True), "\ud800", yaml.Mark("", 0, 0, 0, None, 0), None, '"')

    with pytest.raises(AssertionError, match="from escapes only"):
        source_events._surrogate_escape('"a"', event)


WORDS = st.sampled_from(
    [
        *(
            "a",
            "b: ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "'",
            '"',
            "\n",
            "\n  ",
            "\n    ",
            "&x ",
            "*x",
            "<<: ",
            "!t ",
            "? ",
        ),
        *(">", "|-2", "#", " # c\n", "---\n", "...\n", "%YAML 1.2\n", "%", "@", ":", " ", "\\", "\\ud800", "010"),
        *("~", "\r\n", "\t", "ä", "😀", "key: value\n", "- item\n", "  - x\n", "!", "\ufeff", "\u2028", "\x00"),
    ]
)
YAMLISH = st.lists(WORDS, max_size=14).map("".join) | st.text(max_size=40)


def lines_of(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


@settings(max_examples=500)
@given(YAMLISH)
def test_any_text_gives_values_or_problems_within_it(text: str) -> None:
    found, told = read(text, file="m.yaml")

    lines = lines_of(text)
    assert found is not None or told
    for problem in told:
        assert problem.span is not None
        assert 1 <= problem.span.line <= len(lines)
        assert 1 <= problem.span.column <= len(lines[problem.span.line - 1]) + 1
        assert problem.detail.isprintable()
        assert problem.hint


@settings(max_examples=500)
@given(YAMLISH)
def test_what_pyyaml_accepts_means_the_same_to_libyaml(text: str) -> None:
    assume(not re.search(r":[],[{}?]", text))
    tree, told = read_by(python_events, text)

    if not any(problem.is_error for problem in told):
        assert str(read_by(libyaml_events, text)) == str((tree, told))


@given(st.binary(max_size=60))
def test_any_bytes_give_values_or_problems(data: bytes) -> None:
    text, told = decode(data, file="m.yaml")
    found = None
    if text is not None:
        found, told = read(text, file="m.yaml")

    assert found is not None or told
    assert all(problem.span is not None for problem in told)
