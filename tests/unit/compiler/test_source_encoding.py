"""Bytes → text: encodings by name, and characters that mislead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.source import read
from kloros_infra.compiler.source_encoding import MAX_CHARACTERS_TOLD, check_characters, decode, place_after

TEXT = "a: 1\nb: ä“\n"


def test_utf_8_is_decoded() -> None:
    assert decode("ä: 1\n".encode(), file="m.yaml") == ("ä: 1\n", ())


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert decode("\ufeffa: 1\n".encode(), file="m.yaml") == ("a: 1\n", ())
    found, _ = read("\ufeffa: 1\n", file="m.yaml")
    assert found is not None
    assert str(found.span(("a",))) == "m.yaml:1:4"


@pytest.mark.parametrize("encoding", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_wide_encodings_are_named(encoding: str, mark: str) -> None:
    text, (problem,) = decode((mark + TEXT).encode(encoding), file="m.yaml")

    assert text is None
    assert (problem.code, str(problem.span)) == ("KI109", "m.yaml:1:1")
    assert encoding in problem.detail
    assert f"--from-code={encoding}" in problem.hint


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        (b"a: 1\nb: \xe4\n", "m.yaml:2:4", "in ISO-8859-1 it is 'ä'"),
        (b"a: 1\nb: \x93x\x94\n", "m.yaml:2:4", "in WINDOWS-1252 it is '“'"),
        (b"a: 1\nb: \xc3\xa4\xff\n", "m.yaml:2:5", "0xff does not belong to UTF-8 text."),
        (b"\xef\xbb\xbfa: \xff\xc3\xa4\n", "m.yaml:1:4", "0xff does not belong to UTF-8 text."),
        (b"a: \x81\n", "m.yaml:1:4", "0x81 does not belong to UTF-8 text."),
    ],
)
def test_bytes_that_are_not_utf_8_are_located(data: bytes, place: str, words: str) -> None:
    text, (problem,) = decode(data, file="m.yaml")

    assert text is None
    assert (problem.code, str(problem.span)) == ("KI109", place)
    assert words in problem.detail


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: \x00", "m.yaml:2:4", "U+0000 is not allowed"),
        ("\x7f", "m.yaml:1:1", "U+007F is not allowed"),
        ("a: \ud800", "m.yaml:1:4", "U+D800 is not allowed"),
        ("a:\r\n\r\nb: \u2028", "m.yaml:3:4", "ends a line for some"),
        ("a: \x85", "m.yaml:1:4", "ends a line for some"),
        ("a: b\ufeff", "m.yaml:1:5", "byte order mark"),
        ("# \u202e", "m.yaml:1:3", "direction of writing"),
        ("# \u2066", "m.yaml:1:3", "direction of writing"),
        ("a: 1 # x\rb: 2\r\n", "m.yaml:1:9", "carriage return"),
        ("a: 1\r", "m.yaml:1:5", "carriage return"),
    ],
)
def test_characters_that_mislead_are_refused(text: str, place: str, words: str) -> None:
    found, (problem,) = read(text, file="m.yaml")

    assert found is None
    assert (problem.code, str(problem.span)) == ("KI109", place)
    assert words in problem.detail
    assert problem.hint


@pytest.mark.parametrize("text", ["a: \t😀\xa0\u200b\u200e\u202f\u2060\ue000\n", "a: 1\r\nb: |\r\n  c\r\n"])
def test_other_characters_are_text(text: str) -> None:
    assert check_characters(text, file="m.yaml") == ()


def test_all_such_characters_are_told_but_not_thousands() -> None:
    assert len(check_characters("a\x00\n" * 3, file="m.yaml")) == 3
    assert len(check_characters("\x00" * 10_000, file="m.yaml")) == MAX_CHARACTERS_TOLD


@given(st.binary(max_size=60))
def test_any_bytes_are_a_text_or_a_located_problem(data: bytes) -> None:
    text, told = decode(data, file="m.yaml")

    assert (text is None) is bool(told)
    assert all(problem.span is not None for problem in told)


@given(st.text("ab\r\n", max_size=30))
def test_places_count_lines_as_editors_do(text: str) -> None:
    place = place_after("m.yaml", text)

    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert (place.line, place.column) == (len(lines), len(lines[-1]) + 1)
