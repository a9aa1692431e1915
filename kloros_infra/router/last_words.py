"""What is told of a load that failed to those who asked for the model: why, and nothing of this machine's folders."""

from __future__ import annotations

import re
from collections.abc import Collection

from kloros_infra.diagnostics import quoted_log

MOST_LINES = 5
_TELLING = re.compile(
    r"error|fail|cannot|could not|couldn't|unable|invalid|unknown|denied|no such|out of|terminat|abort", re.I
)
_FOLDERS = re.compile(r"(?<![\w/:.])/(?:[^\s/'\"`:;,()]+/)+")


def last_words(unit: str, reason: str, lines: Collection[str]) -> str:
    """Say why a unit did not start, with those of its last lines that speak of it; operators are given all of them."""
    why = reason.strip().removesuffix(".")
    said = f"{why}." if why.startswith(unit) else f"{unit} did not start: {why}."
    telling = _telling(lines)
    return without_folders(f"{said} It wrote last:{quoted_log(telling)}" if telling else f"{said}{quoted_log(())}")


def _telling(lines: Collection[str]) -> tuple[str, ...]:
    """Choose the lines that speak of a failure, most of the rest being figures; the last ones where none does."""
    written = [line for line in lines if line.strip()]
    return tuple(([line for line in written if _TELLING.search(line)] or written)[-MOST_LINES:])


def without_folders(text: str) -> str:
    """Leave only the last part of every absolute path."""
    return _FOLDERS.sub("…/", text)
