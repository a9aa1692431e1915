"""Questions about the lines of a text, by position."""

from __future__ import annotations

import re

_LINE_END = re.compile(r"\r\n|\n|\r|$(?![\s\S])")
_BLANK_LINE = re.compile(r"[ \t]*(?:\r\n|\n|\r)")
_COMMENT_LINE = re.compile(r"([ \t]*)#[^\r\n]*(?:\r\n|\n|\r|$(?![\s\S]))")


def line_start(text: str, position: int) -> int:
    """Find where the line begins."""
    return max(text.rfind("\n", 0, position), text.rfind("\r", 0, position)) + 1


def line_end(text: str, position: int) -> int:
    """Find where the line ends, before its line break."""
    found = _LINE_END.search(text, position)
    return found.start() if found else len(text)


def next_line(text: str, position: int) -> int:
    """Find where the next line begins; the end of the text if there is none."""
    found = _LINE_END.search(text, position)
    return found.end() if found else len(text)


def stands_alone(text: str, position: int) -> bool:
    """Say whether nothing but blanks stands before this on its line."""
    return not text[line_start(text, position) : position].strip(" \t")


def end_with_comments(text: str, end: int, column: int) -> int:
    """Find the line after a value and the comment lines directly below that are indented beyond `column`."""
    # A block scalar that keeps its blank lines ends behind its last line break.
    position = end if end == line_start(text, end) and end > 0 else next_line(text, end)
    while (found := _COMMENT_LINE.match(text, position)) and len(found[1]) > column:
        position = found.end()
    return position


def start_with_comments(text: str, start: int, column: int) -> int:
    """Find the first of the comment lines directly above a line that are indented as it is."""
    while start > 0:
        above = line_start(text, _before_break(text, start))
        found = _COMMENT_LINE.match(text, above)
        if not found or len(found[1]) != column or found.end() != start:
            return start
        start = above
    return start


def end_of_blanks(text: str, position: int) -> int:
    """Find the first line from here on that is not blank."""
    while found := _BLANK_LINE.match(text, position):
        position = found.end()
    return position


def start_of_blanks(text: str, position: int) -> int:
    """Find the first of the blank lines directly above this line."""
    while position > 0:
        above = line_start(text, _before_break(text, position))
        if above == position or not _BLANK_LINE.fullmatch(text, above, position):
            return position
        position = above
    return position


def blank_count(text: str, start: int, end: int) -> int:
    """Count the blank lines of the first run of them between two values."""
    position = next_line(text, start)
    while position < end:
        last = end_of_blanks(text, position)
        if last > position:
            return len(_BLANK_LINE.findall(text[position:last]))
        position = next_line(text, position)
    return 0


def _before_break(text: str, position: int) -> int:
    """Step back over the line break before a line."""
    return position - (2 if text[position - 2 : position] == "\r\n" else 1)
