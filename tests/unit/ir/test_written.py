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
        (written.CardMemory, "12GiB", 12 * 2**30),
        (written.Bandwidth, "960GB/s", 960 * 10**9),
        (written.Duration, "90s", 90.0),
        (written.Duration, "1.5m", 90.0),
        (written.Percent, "80%", 0.8),
        (written.Percent, "100.0 %", 1.0),
        (written.PositiveDuration, "0.05 s", 0.05),
        (written.Percent, "0.5%", 0.005),
        (written.Bytes, "9999GB", 9999 * 10**9),
        (written.Duration, "999d", 999 * 86400.0),
        (written.Alias, "hf.co/owner/repo:Q4_0", "hf.co/owner/repo:Q4_0"),
        (written.HostAddress, "255.0.10.99", "255.0.10.99"),
        (written.HostAddress, "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::1"),
        (written.HostAddress, "::1", "::1"),
        (written.HostAddress, "box-1.lan", "box-1.lan"),
        (written.HostAddress, "3com", "3com"),
        (written.ReadablePath, "/runs/weights", "/runs/weights"),
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
        (written.CardMemory, "0GiB", "12GiB"),
        (written.CardMemory, "1B", "12GiB"),
        (written.CardMemory, "99999TiB", "12GiB"),
        (written.Bytes, "10TB", "amount of memory"),
        (written.Bandwidth, "100TB/s", "960GB/s"),
        (written.CardMemory, "0.5GiB", "512MiB instead of 0.5GiB"),
        (written.CardMemory, "twelve", "such as 12GiB"),
        (written.Bandwidth, "0GB/s", "960GB/s"),
        (written.Bandwidth, "960GB", "960GB/s"),
        (written.Duration, "5", "30s or 5m"),
        (written.Duration, "1000d", "30s or 5m"),
        (written.PositiveDuration, "0s", "above 0s"),
        (written.PositiveDuration, "0.0ms", "above 0s"),
        (written.Percent, "101%", "above 0%"),
        (written.Percent, "0%", "above 0%"),
        (written.Percent, "00.0%", "above 0%"),
        (written.Alias, "code:", "pattern"),
        (written.Alias, "code/", "pattern"),
        (written.Alias, "a//b", "pattern"),
        (written.Alias, "a" * 129, "128"),
        (written.HostAddress, "300.1.2.3", "pattern"),
        (written.HostAddress, "1234", "pattern"),
        (written.HostAddress, "1.2.3.4.5", "pattern"),
        (written.HostAddress, "a..b", "pattern"),
        (written.UrlPath, "v1", "pattern"),
        (written.FolderPath, "/", "pattern"),
        (written.FolderPath, "//srv//a", "pattern"),
        (written.FolderPath, "/srv/", "pattern"),
        (written.ReadablePath, "/proc", "outside of /dev"),
        (written.ReadablePath, "/run/user/1000", "outside of /dev"),
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
