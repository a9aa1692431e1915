"""The line that a problem is on, as a terminal shows it, and how far from its start a column is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

WIDTH_CELLS = 100
TAB_CELLS = 4
CUT = "…"
_REACH = 4
"""How many widths of a line are laid out on each side of a column: marks take no cells, so one may be too few."""

# The line breaks of YAML 1.2 (https://yaml.org/spec/1.2.2/#54-line-break-characters), by which spans count.
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What is shown of a line; `caret` is the number of cells left of the column."""

    text: str
    caret: int


def line_at(text: str, number: int) -> str | None:
    """Give a line of a text by its number from 1; None where there is none."""
    lines = _lines(text)
    return lines[number - 1] if 1 <= number <= len(lines) else None


@lru_cache(maxsize=4)
def _lines(text: str) -> list[str]:
    """Split a text once for all problems in it, which come file by file."""
    # A byte order mark is no part of the first line: spans do not count it.
    return _LINE_BREAK.split(text.removeprefix("\ufeff"))


def excerpt(line: str, column: int, *, width_cells: int = WIDTH_CELLS) -> Excerpt:
    """Lay out a line around a column (from 1): what is too far from it on either side is cut off."""
    reach = _REACH * width_cells
    start = max(0, min(column - 1, len(line)) - reach)
    shown = list(_shown(line[start : start + 2 * reach]))
    starts = [0, *accumulate(_cells(one) for one in shown)]
    here = min(column - 1 - start, len(shown))
    first, last = 0, len(shown)
    if starts[-1] > width_cells:
        # Most of the room goes to what is left of the column: a value's key says more than what follows it.
        first = _first_within(starts, starts[here] - width_cells * 2 // 3)
        last = _last_within(starts, starts[first] + width_cells)
    before = CUT if start + first > 0 else ""
    after = CUT if start + last < len(line) else ""
    return Excerpt(before + "".join(shown[first:last]) + after, len(before) + starts[here] - starts[first])


def _first_within(starts: list[int], least: int) -> int:
    """Find the first character that starts at a cell or after it; one of no width never comes first."""
    first = next(index for index, start in enumerate(starts) if start >= least)
    while first > 0 and first + 1 < len(starts) and starts[first] == starts[first + 1]:
        first += 1
    return first


def _last_within(starts: list[int], most: int) -> int:
    """Count the characters that end at a cell or before it."""
    return max(index for index, start in enumerate(starts) if start <= most)


def _shown(line: str) -> Iterator[str]:
    """Give each character as it is printed: a tab as blanks, what would steer the terminal as a replacement."""
    at = 0
    for character in line:
        plain = character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        one = " " * (TAB_CELLS - at % TAB_CELLS) if character == "\t" else plain
        at += _cells(one)
        yield one


def _cells(shown: str) -> int:
    """Count the cells that a terminal gives a character (Unicode Annex 11; marks join the character before them)."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in shown
    )
