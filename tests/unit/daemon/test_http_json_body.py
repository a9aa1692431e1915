"""Strict JSON: what is let through means the same to every reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.diagnostics import Diagnostic

BAD = {
    "empty": (b"", "it is empty"),
    "spaces": (b" \n", "it is empty"),
    "half": (b'{"a":', "line 1 column 5"),
    "two values": (b"{}{}", "trailing"),
    "array": (b"[]", "an array"),
    "text": (b'"a"', "a string"),
    "null": (b"null", "null"),
    "boolean": (b"true", "a boolean"),
    "number": (b"1", "a number"),
    "NaN": (b'{"a":NaN}', "column 6"),
    "Infinity": (b'{"a":-Infinity}', "column"),
    "out of range": (b'{"a":1e999}', "out of range"),
    "endless integer": (b'{"a":' + b"1" * 5000 + b"}", "out of range"),
    "repeated key": (b'{"a":{"b":1,"c":2,"b":3}}', "'b' appears twice"),
    "lone surrogate": (b'{"a":"\\ud800"}', "hex escape"),
    "not UTF-8": (b'{"a":"\xff"}', "unicode code point at line 1 column 7"),
    "surrogate in UTF-8": (b'{"a":"\xed\xa0\x80"}', "unicode code point at line 1 column 7"),
    "byte order mark": (b"\xef\xbb\xbf{}", "line 1 column 1"),
    "control character": (b'{"a":"\x01"}', "control character"),
    "too deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "recursion"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_json_is_refused_with_its_reason(name: str) -> None:
    data, reason = BAD[name]
    problem = parse_object(data)
    assert isinstance(problem, Diagnostic)
    assert problem.code == "KI837"
    assert reason.lower() in problem.detail.lower()


def test_many_repeated_keys_are_found_quickly() -> None:
    data = dump({str(number): 0 for number in range(200_000)})[:-1] + b',"7":1}'
    problem = parse_object(data)
    assert isinstance(problem, Diagnostic)
    assert "'7' appears twice" in problem.detail


def test_brackets_in_text_are_not_depth() -> None:
    assert parse_object(dump({"a": "[" * 1000 + "\\u0041"})) == {"a": "[" * 1000 + "\\u0041"}


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans())
def test_every_object_comes_back(value: dict[str, Any], is_ascii: bool) -> None:
    assert parse_object(json.dumps(value, ensure_ascii=is_ascii).encode()) == value
    assert parse_object(dump(value)) == value


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    assert isinstance(parse_object(data), dict | Diagnostic)
