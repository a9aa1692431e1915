"""Cuts that take something out, with the comments and blank lines that belong to it."""

from __future__ import annotations

import re

from kloros_infra.editing.lines import (
    end_of_blanks,
    end_with_comments,
    line_end,
    line_start,
    next_line,
    stands_alone,
    start_of_blanks,
    start_with_comments,
)
from kloros_infra.editing.nodes import Kind, Node, Tree, dashes, skip_blanks
from kloros_infra.editing.splice import Cut, Cuts, UnusualSpellingError

_REST_OF_LINE = re.compile(r",?[ \t]*(?:#[^\r\n]*)?(?=\r|\n|$)")


def remove_part(tree: Tree, node: Node, holder: Node | None, place: int) -> Cuts:
    """Take the part at a place out of a list or mapping, which `holder` has as a value if it is a mapping."""
    starts = _starts(tree, node)
    if node.is_flow:
        return (_out_of_flow(tree, node, starts, place),)
    if not stands_alone(tree.text, starts[place]):
        return (_beside_dash(tree, node, starts, place),)
    cut = _lines_of(tree, node, starts, place)
    if len(starts) > 1:
        return (cut,)
    return (_emptied(tree, node, holder), cut)


def _starts(tree: Tree, node: Node) -> list[int]:
    """Find where each part begins: at its dash, key or, between brackets, value."""
    if node.kind is Kind.MAPPING:
        return [key.start for key, _ in node.entries]
    return [item.start for item in node.items] if node.is_flow else list(dashes(tree, node))


def _lines_of(tree: Tree, node: Node, starts: list[int], place: int) -> Cut:
    """Cut out whole lines, and the blank lines on one side of them."""
    text, column = tree.text, node.column
    start = start_with_comments(text, line_start(text, starts[place]), column)
    end = end_with_comments(text, node.values[place].end, column)
    blanks = start_of_blanks(text, start)
    if place == len(starts) - 1:
        # Without a line break at the end of the text there is none after the part before.
        ends_open = end == len(text) and not text.endswith(("\n", "\r")) and blanks > 0
        return Cut(line_end(text, blanks - len(tree.newline)) if ends_open else blanks, end, "")
    return Cut(start, end_of_blanks(text, end) if place == 0 or blanks < start else end, "")


def _beside_dash(tree: Tree, node: Node, starts: list[int], place: int) -> Cut:
    """Cut out a part that shares its line with the dash of the item that it is in: the next one moves up."""
    if len(starts) == 1 or tree.text[node.values[place].end : starts[place + 1]].strip():
        raise UnusualSpellingError("it begins on the line of another value")
    return Cut(starts[place], starts[place + 1], "")


def _emptied(tree: Tree, node: Node, holder: Node | None) -> Cut:
    """Write empty brackets behind the key of a list or mapping that loses its last part."""
    if holder is None or holder.kind is not Kind.MAPPING:
        raise UnusualSpellingError("it is the last value of its list")
    key = next(key for key, value in holder.entries if value is node)
    colon = skip_blanks(tree.text, key.end) + 1
    return Cut(colon, colon, " []" if node.kind is Kind.LIST else " {}")


def _out_of_flow(tree: Tree, node: Node, starts: list[int], place: int) -> Cut:
    """Cut a part from between brackets, with one comma."""
    text, value = tree.text, node.values[place]
    first, behind = starts[place], _REST_OF_LINE.match(text, value.end)
    if stands_alone(text, first) and behind and node.start < line_start(text, first) and behind.end() < node.end:
        return Cut(line_start(text, first), next_line(text, behind.end()), "")
    if place > 0:
        cut = Cut(node.values[place - 1].end, value.end, "")
    elif len(starts) > 1:
        cut = Cut(first, starts[1], "")
    else:
        cut = Cut(first, value.end, "")
    if "#" in text[cut.start : first] or "#" in text[value.end : cut.end]:
        raise UnusualSpellingError("a comment stands between it and its neighbour")
    return cut
