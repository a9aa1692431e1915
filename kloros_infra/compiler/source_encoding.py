"""Bytes → text that every reader takes alike: UTF-8, and no characters that mislead (KI109)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from kloros_infra.compiler import source_problems
from kloros_infra.diagnostics import Problems, Span

BYTE_ORDER_MARK = "\ufeff"
MAX_CHARACTERS_TOLD = 20

# UTF-32 before UTF-16: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32LE"),
    (b"\x00\x00\xfe\xff", "UTF-32BE"),
    (b"\xff\xfe", "UTF-16LE"),
    (b"\xfe\xff", "UTF-16BE"),
)
# A file without mark begins with a character of ASCII (https://yaml.org/spec/1.2.2/#52-character-encodings).
_ZEROS = (
    (re.compile(rb"\x00\x00\x00[^\x00]"), "UTF-32BE"),
    (re.compile(rb"[^\x00]\x00\x00\x00"), "UTF-32LE"),
    (re.compile(rb"\x00[^\x00]\x00[^\x00]"), "UTF-16BE"),
    (re.compile(rb"[^\x00]\x00[^\x00]\x00"), "UTF-16LE"),
)
_MISLEADING = re.compile(
    # What YAML 1.2 calls printable (https://yaml.org/spec/1.2.2/#51-character-set), less the line breaks of YAML 1.1
    # (U+0085, U+2028, U+2029), the controls of writing direction, and byte order marks within the text.
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_LONE_RETURN = re.compile(r"\r(?!\n)")


def decode(data: bytes, *, file: str) -> tuple[str | None, Problems]:
    """Decode a file's bytes as UTF-8, with or without a byte order mark; name the encoding that it is in instead."""
    wide = _wide_encoding(data)
    if wide is not None:
        return None, (source_problems.wide_encoding(Span(file, 1, 1), wide),)
    data = data.removeprefix(BYTE_ORDER_MARK.encode())
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        place = place_after(file, data[: error.start].decode("utf-8"))
        return None, (source_problems.bad_byte(place, data[error.start], _narrow_encoding(data)),)


def _wide_encoding(data: bytes) -> str | None:
    marked = (name for mark, name in _MARKS if data.startswith(mark))
    unmarked = (name for pattern, name in _ZEROS if pattern.match(data))
    return next(marked, None) or next(unmarked, None)


def _narrow_encoding(data: bytes) -> str | None:
    """Guess the encoding of one byte per character, where nothing shows that the rest is UTF-8."""
    if not data.decode("utf-8", "ignore").isascii():
        return None
    try:
        data.decode("windows-1252")
    except UnicodeDecodeError:
        return None
    return "WINDOWS-1252" if re.search(rb"[\x80-\x9f]", data) else "ISO-8859-1"


def place_after(file: str, before: str) -> Span:
    """Give the place that follows a text."""
    breaks = before.count("\n") + before.count("\r") - before.count("\r\n")
    return Span(file, breaks + 1, len(before) - max(before.rfind("\n"), before.rfind("\r")))


def check_characters(text: str, *, file: str) -> Problems:
    """Find what YAML does not allow, and what people, editors and readers of YAML would take differently."""
    return tuple(
        source_problems.bad_character(place_after(file, text[:index]), text[index])
        for index in islice(_misleading(text), MAX_CHARACTERS_TOLD)
    )


def _misleading(text: str) -> Iterator[int]:
    yield from (found.start() for found in _MISLEADING.finditer(text))
    if "\r" in text:
        yield from (found.start() for found in _LONE_RETURN.finditer(text))
