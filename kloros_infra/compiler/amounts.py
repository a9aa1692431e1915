"""Amounts as people write them → how this file writes them: `12gb`, `300`, `1h30m`, `0.8`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from kloros_infra.ir import written

_FIGURE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)(?:/s(?:ec)?|ps)?")
_DURATION_PARTS = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[a-z]+)+")
_DURATION_WORDS: Mapping[str, str] = {
    "msec": "ms", "millis": "ms", "milliseconds": "ms", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "min": "m", "mins": "m", "minute": "m", "minutes": "m", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d",
}  # fmt: skip


def amount_hint(value: Any, read: Callable[[Any], Any]) -> str | None:
    """Say how a value is written that `read` refuses, one of the readers of `ir.written`; None where that is unclear.

    What is suggested is always something that `read` takes.
    """
    suggestions = _SUGGESTIONS.get(read)
    if suggestions is None or isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    found = dict.fromkeys(one for one in suggestions(text) if _is_read(one, read))
    if not found:
        return _why(text, read)
    shown = list(found)
    return f"Write {shown[0]}." if len(shown) == 1 else f"Did you mean {', '.join(shown[:-1])} or {shown[-1]}?"


def _why(text: str, read: Callable[[Any], Any]) -> str | None:
    """Say what no amount can be, whatever its unit."""
    if re.match(r"-[0-9.]", text):
        return "It cannot be less than nothing."
    if re.match(r"[0-9.]+e[+-]?[0-9]", text, re.IGNORECASE):
        return "Write the figure out, without an exponent."
    one = re.sub(r"^[1-9][0-9.]*(?= ?[A-Za-z])", "1", text)
    if (one != text and _is_read(one, read)) or re.match(r"[0-9]{10}", text):
        return "The figure is beyond all measure."
    return None


def _is_read(text: str, read: Callable[[Any], Any]) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _bytes(text: str, suffix: str = "") -> tuple[str, ...]:
    found = _FIGURE.fullmatch(text)
    if not found:
        return ()
    figure, unit = found[1], found[2].lower()
    if not unit:
        return tuple(f"{figure}{one}{suffix}" for one in ("GB" if suffix else "GiB", "MB" if suffix else "MiB"))
    alike = (one for one in written.BYTE_UNITS if unit in (one.lower(), one[0].lower()))
    return tuple(f"{figure}{one}{suffix}" for one in alike) + _binary_twin(figure, unit, suffix)


def _binary_twin(figure: str, unit: str, suffix: str) -> tuple[str, ...]:
    """Offer GiB beside GB: who writes `gb` of memory may mean either."""
    twin = next((one for one in written.BYTE_UNITS if one.lower() == f"{unit[0]}ib"), None)
    return (f"{figure}{twin}",) if twin and not suffix and len(unit) == 2 else ()


def _bandwidth(text: str) -> tuple[str, ...]:
    return _bytes(text, "/s")


def _duration(text: str) -> tuple[str, ...]:
    found = _FIGURE.fullmatch(text)
    if found and not found[2]:
        return (f"{found[1]}s",)
    lowered = text.lower()
    if found and found[2].lower() in {*_DURATION_WORDS, *written.DURATION_UNITS}:
        unit = found[2].lower()
        return (f"{found[1]}{_DURATION_WORDS.get(unit, unit)}",)
    if _DURATION_PARTS.fullmatch(lowered):
        return _together(re.findall(r"([0-9]+(?:\.[0-9]+)?)([a-z]+)", lowered))
    return ()


def _together(parts: list[tuple[str, str]]) -> tuple[str, ...]:
    """Write `1h30m` with one unit: 90m."""
    units = [_DURATION_WORDS.get(unit, unit) for _, unit in parts]
    if any(unit not in written.DURATION_UNITS for unit in units):
        return ()
    total_s = sum(float(part[0]) * written.DURATION_UNITS[unit] for part, unit in zip(parts, units, strict=True))
    for unit in ("h", "m", "s", "ms"):
        figure = total_s / written.DURATION_UNITS[unit]
        if math.isclose(figure, round(figure)):
            return (f"{round(figure)}{unit}",)
    return ()


def _percent(text: str) -> tuple[str, ...]:
    found = _FIGURE.fullmatch(text)
    if not found or found[2]:
        return ()
    figure = float(found[1])
    return (f"{figure * 100:g}%",) if figure <= 1 and "." in text else (f"{figure:g}%",)


_SUGGESTIONS: Mapping[Callable[[Any], Any], Callable[[str], tuple[str, ...]]] = {
    written.parse_bytes: _bytes,
    written.parse_card_memory: _bytes,
    written.parse_bandwidth: _bandwidth,
    written.parse_duration: _duration,
    written.parse_positive_duration: _duration,
    written.parse_percent: _percent,
}
