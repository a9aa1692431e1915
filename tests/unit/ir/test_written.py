"""Amounts, addresses and arguments as they are written: what is read, and what is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from kloros_infra.ir import written
from kloros_infra.ir.config_models import parse_argument


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (written.Bytes, "0B", 0),
        (written.Bytes, "1.5 GiB", 3 * 2**29),
        (written.PositiveBytes, "12GiB", 12 * 2**30),
        (written.Bandwidth, "960GB/s", 960 * 10**9),
        (written.Duration, "90s", 90.0),
        (written.Duration, "1.5m", 90.0),
        (written.Percent, "80%", 0.8),
        (written.Percent, "100.0 %", 1.0),
        (written.BusAddress, "tcp://127.0.0.1:65535", "tcp://127.0.0.1:65535"),
        (written.FolderPath, "/srv/a..b/.c", "/srv/a..b/.c"),
    ],
)
def test_what_is_written_is_read(kind: Any, value: Any, read: Any) -> None:
    assert TypeAdapter(kind).validate_python(value) == read


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (written.Bytes, "12", "amount of memory"),
        (written.Bytes, 12, "amount of memory"),
        (written.Bytes, "12GiB\n", "amount of memory"),
        (written.PositiveBytes, "0GiB", "1 or more"),
        (written.PositiveBytes, "0.5GiB", "512MiB instead of 0.5GiB"),
        (written.PositiveBytes, "twelve", "such as 12GiB"),
        (written.Bandwidth, "0GB/s", "960GB/s"),
        (written.Bandwidth, "960GB", "960GB/s"),
        (written.Duration, "5", "30s or 5m"),
        (written.Percent, "101%", "from 0% to 100%"),
        (written.BusAddress, "tcp://127.0.0.1:0", "pattern"),
        (written.BusAddress, "tcp://127.0.0.1:65536", "pattern"),
        (written.BusAddress, "tcp://127.0.0.1:05556", "pattern"),
        (written.FolderPath, "/srv/../etc", "without '..'"),
        (written.FolderPath, "/srv/..", "without '..'"),
        (written.FolderPath, '/srv/"a"', "pattern"),
        (written.Program, "package://a/../b", "without '..'"),
        (written.WeightsSource, "file:///../weights.gguf", "without '..'"),
    ],
)
def test_what_is_not_accepted_says_what_is(kind: Any, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("value", "read"), [(True, True), (8, 8), (0.5, 0.5), ("q8_0", "q8_0"), ([1, "a", 0.5], (1, "a", 0.5))]
)
def test_arguments_are_single_values_or_lists_of_them(value: Any, read: Any) -> None:
    assert parse_argument(value) == read


@pytest.mark.parametrize(
    "value", [None, {}, [], [True], [[1]], "a\nb", "\u2028", "a" * 4097, float("inf"), [float("nan")]]
)
def test_other_arguments_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected true, false, a number"):
        parse_argument(value)
