"""Know a head again that has been read before: all of it but the digits of its length.

The messages of one connection mostly begin with the same bytes. What a parser has let through once says the same
again, so that nothing is judged less strictly: only the digits differ, and what they may be is checked here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MOST_DIGITS = 8
END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\n(?i:content-length):[ \t]*(\d{1,%d})\r\n" % MOST_DIGITS)


class KnownHead(NamedTuple):
    """A head around the digits of its length: `before` ends where they begin, `after` begins with their line's end."""

    before: bytes
    at: int
    after: bytes


def known_head(data: bytes) -> KnownHead | None:
    """Remember the head that bytes begin with, which a parser has let through; None where its body has no length."""
    end = data.find(END) + len(END)
    found = _LENGTH.search(data, 0, end)
    return KnownHead(data[: found.start(1)], found.start(1), data[found.end(1) : end]) if found else None


def framing_of(data: bytes, known: KnownHead) -> tuple[int, int] | None:
    """Say where the body begins and how long it is, where bytes begin with a known head; else None."""
    before, at, after = known
    if not data.startswith(before):
        return None
    end = data.find(b"\r", at, at + MOST_DIGITS + 1)
    digits = data[at:end] if end > 0 else b""
    if not digits.isdigit() or not data.startswith(after, end):
        return None
    return end + len(after), int(digits)
