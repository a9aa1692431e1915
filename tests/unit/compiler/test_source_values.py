"""Unquoted scalars → plain values, and what they were in YAML 1.1."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kloros_infra.compiler.source_values import boolean_meant, is_read_otherwise_elsewhere, number_meant, plain_value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("0o17", 15),
        ("0xff", 255),
        ("0x1F", 31),
        ("017", 17),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("2025-11-17", "2025-11-17"),
        ("0b11", "0b11"),
        ("=", "="),
        ("-", "-"),
        ("9" * 5000, math.inf),
    ],
)
def test_unquoted_scalars_follow_the_core_schema_of_yaml_1_2(written: str, value: Any) -> None:
    found = plain_value(written)

    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number() -> None:
    found = plain_value(".nan")

    assert isinstance(found, float)
    assert math.isnan(found)


@pytest.mark.parametrize(
    ("written", "differs"),
    [("010", True), ("-017", True), ("00", False), ("0", False), ("10", False), ("-10", False), ("0o10", False)],
)
def test_octal_numbers_of_yaml_1_1_are_known(written: str, differs: bool) -> None:
    assert is_read_otherwise_elsewhere(written) is differs


@pytest.mark.parametrize(
    ("text", "meant"),
    [("yes", "true"), ("ON", "true"), ("True", "true"), ("n", "false"), ("off", "false"), ("j", None)],
)
def test_words_for_true_and_false(text: str, meant: str | None) -> None:
    assert boolean_meant(text) == meant


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("12:30:45", "12:30:45 is text"),
        ("1:30.5", "1:30.5 is text"),
        ("1_000", "Write 1000"),
        ("1,000,000", "Write 1000000"),
        ("-1'000", "Write -1000"),
        ("10 000", "Write 10000"),
        ("0b11", "Write 3"),
        ("0x_1F", "Write 31"),
        ("0X1f", "Write 31"),
        ("0O17", "Write 15"),
    ],
)
def test_numbers_that_are_text_in_yaml_1_2(text: str, begin: str) -> None:
    assert str(number_meant(text)).startswith(begin)


@pytest.mark.parametrize(
    "text", ["", "two", "1.2.3", "12:75", "0b", "0x_", "1,00", "1_" * 1000 + "1", "0b" + "1" * 9999]
)
def test_other_text_is_no_number(text: str) -> None:
    assert number_meant(text) is None
