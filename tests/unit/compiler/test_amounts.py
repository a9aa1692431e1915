"""What is suggested for amounts that are not written as this file writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.amounts import amount_hint
from kloros_infra.ir.written import (
    parse_bandwidth,
    parse_bytes,
    parse_card_memory,
    parse_duration,
    parse_percent,
    parse_positive_duration,
)

READERS: tuple[Callable[[Any], Any], ...] = (
    parse_bytes,
    parse_card_memory,
    parse_bandwidth,
    parse_duration,
    parse_percent,
)


@pytest.mark.parametrize(
    ("value", "read", "hint"),
    [
        ("12gb", parse_bytes, "Did you mean 12GB or 12GiB?"),
        ("12 G", parse_bytes, "Did you mean 12GB or 12GiB?"),
        ("12G", parse_card_memory, "Did you mean 12GB or 12GiB?"),
        ("1.5 gib", parse_bytes, "Write 1.5GiB."),
        ("600b", parse_bytes, "Write 600B."),
        (12, parse_bytes, "Did you mean 12GiB or 12MiB?"),
        ("12 gigs", parse_bytes, None),
        ("-1GiB", parse_bytes, "It cannot be less than nothing."),
        ("1e3GiB", parse_bytes, "Write the figure out, without an exponent."),
        ("9999999999TiB", parse_bytes, "The figure is beyond all measure."),
        (360, parse_bandwidth, "Did you mean 360GB/s or 360MB/s?"),
        ("360gb", parse_bandwidth, "Write 360GB/s."),
        ("1.2 TB/sec", parse_bandwidth, "Write 1.2TB/s."),
        (300, parse_duration, "Write 300s."),
        ("300", parse_duration, "Write 300s."),
        ("5 minutes", parse_duration, "Write 5m."),
        ("5M", parse_duration, "Write 5m."),
        ("1h30m", parse_duration, "Write 90m."),
        ("5m0s", parse_duration, "Write 5m."),
        ("1s500ms", parse_duration, "Write 1500ms."),
        ("1ms0.0001ms", parse_duration, None),
        ("1h30parsecs", parse_duration, None),
        ("3mo", parse_duration, None),
        ("-5s", parse_duration, "It cannot be less than nothing."),
        ("forever", parse_duration, None),
        ("1000d", parse_duration, "The figure is beyond all measure."),
        ("99999999999s", parse_positive_duration, "The figure is beyond all measure."),
        ("0s", parse_positive_duration, None),
        ("10TB", parse_bytes, "The figure is beyond all measure."),
        ("100kB", parse_card_memory, None),
        (90, parse_percent, "Write 90%."),
        (0.9, parse_percent, "Write 90%."),
        ("1.0", parse_percent, "Write 100%."),
        ("101%", parse_percent, None),
        ("80 percent", parse_percent, None),
        (True, parse_bytes, None),
        (None, parse_bytes, None),
        ("12gb", str.upper, None),
    ],
)
def test_the_likeliest_way_to_write_it_is_named(value: Any, read: Callable[[Any], Any], hint: str | None) -> None:
    assert amount_hint(value, read) == hint


@given(st.text() | st.integers() | st.floats(allow_nan=False), st.sampled_from(READERS))
def test_whatever_is_suggested_is_read(value: Any, read: Callable[[Any], Any]) -> None:
    hint = amount_hint(value, read) or ""

    for suggested in hint.removeprefix("Did you mean ").removeprefix("Write ").rstrip("?.").split(" or "):
        if hint.startswith(("Did", "Write ")) and "exponent" not in hint:
            read(suggested)
