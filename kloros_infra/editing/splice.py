"""Cuts: which characters of a text go, and what stands in their place. Here those that put something in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kloros_infra.editing.edits import Scalar, Value
from kloros_infra.editing.lines import blank_count, end_with_comments, line_end, line_start, stands_alone
from kloros_infra.editing.looks import INDENT, Looks, gap_after_dash, value_column
from kloros_infra.editing.nodes import Kind, Node, Tree, dashes, skip_blanks
from kloros_infra.editing.render import (
    can_be_literal,
    entry_lines,
    flow_text,
    literal_header,
    scalar_text,
    value_lines,
)


@dataclass(frozen=True, slots=True)
class Cut:
    """The characters from `start` to `end` give way to a text."""

    start: int
    end: int
    text: str


Cuts = tuple[Cut, ...]

_COMMENT = re.compile(r"( {2,})#")
_HEADER = re.compile(r"[|>][-+0-9]*()")


class UnusualSpellingError(Exception):
    """The text is written in a way in which an edit would have to rewrite what stands around it."""


def spliced(text: str, cuts: Iterable[Cut]) -> str:
    """Make cuts that do not overlap."""
    for cut in sorted(cuts, key=lambda cut: cut.start, reverse=True):
        text = text[: cut.start] + cut.text + text[cut.end :]
    return text


def replace_scalar(tree: Tree, node: Node, parent: Node, value: Scalar) -> Cuts:
    """Write another single value where one stands, in the same quotes; a comment behind it keeps its column."""
    if isinstance(value, str) and can_be_literal(value) and not parent.is_flow:
        return _literal(tree, node, parent, value)
    quote = node.style if node.style in ("'", '"') else ""
    written = scalar_text(value, quote, is_inside=parent.is_flow)
    end = _text_end(tree, node)
    comment = _COMMENT.match(tree.text, end)
    if comment is None:
        return (Cut(node.content, end, _gap(node) + written),)
    width = end - node.content + len(comment[1])
    return (Cut(node.content, comment.end(1), _gap(node) + written.ljust(max(width, len(written) + 2))),)


def _literal(tree: Tree, node: Node, parent: Node, text: str) -> Cuts:
    """Write a text of several lines below the line of the value before it, whose comment stays."""
    end = _text_end(tree, node)
    comment = _HEADER.match(tree.text, node.content)
    header_end = comment.start(1) if comment and node.style in ("|", ">") else end
    lines = _indented(text.splitlines(), _literal_indent(tree, node) or parent.column + INDENT)
    below = max(end, line_end(tree.text, header_end))
    return (
        Cut(node.content, header_end, _gap(node) + literal_header(text)),
        Cut(line_end(tree.text, header_end), below, tree.newline.join(["", *lines])),
    )


def _text_end(tree: Tree, node: Node) -> int:
    """Find where a scalar ends, leaving out the line breaks that a block scalar keeps: they stay where they are."""
    return node.content + len(tree.text[node.content : node.end].rstrip(" \t\r\n"))


def append_item(tree: Tree, node: Node, value: Value, *, is_section: bool) -> Cuts:
    """Write an item behind the last of a list that has some; `is_section` says that the list is one of the file's."""
    looks = Looks(tuple((item, None) for item in reversed(node.items)))
    last = node.items[-1]
    if node.is_flow:
        return _append_in_flow(tree, node, last, flow_text(value, looks, is_inside=True))
    if not stands_alone(tree.text, node.content):
        raise UnusualSpellingError("the list begins on the line of another value")
    gap = gap_after_dash(node, dashes(tree, node))
    first, *rest = value_lines(value, looks)
    lines = [f"-{' ' * gap}{first}", *_indented(rest, 1 + gap)]
    alone = int(is_section and isinstance(value, Mapping))
    blanks = _blanks_between(tree, node.items, otherwise=alone)
    return (_lines_behind(tree, last, _indented(lines, node.column), column=node.column, blanks=blanks),)


def add_key(tree: Tree, node: Node, key: str, value: Value) -> Cuts:
    """Write a key and its value behind the last of a mapping that has some."""
    looks = _neighbours(node) if isinstance(value, Mapping) else _block_neighbours(node)
    last = node.entries[-1][1]
    if node.is_flow:
        name = scalar_text(key, "", is_inside=True)
        return _append_in_flow(tree, node, last, f"{name}: {flow_text(value, looks, is_inside=True)}")
    column = value_column(node)
    lines = entry_lines(key, value, looks, width=0 if column is None else column - node.column)
    blanks = _blanks_between(tree, node.values, otherwise=0)
    return (_lines_behind(tree, last, _indented(lines, node.column), column=node.column, blanks=blanks),)


def begin(tree: Tree, node: Node, parent: Node, value: Sequence[Value] | Mapping[str, Value]) -> Cuts:
    """Write the first parts of a list or mapping where nothing or an empty one stands."""
    key = next(key for key, part in parent.entries if part is node)
    colon = skip_blanks(tree.text, key.end) + 1
    looks = _block_neighbours(parent)
    _, *lines = entry_lines(key.text, value, looks)
    if parent.is_flow or not lines:
        return (Cut(colon, node.end, f" {flow_text(value, looks, is_inside=parent.is_flow)}"),)
    below = _lines_behind(tree, node, _indented(lines, parent.column), column=parent.column, blanks=0)
    return Cut(colon, node.end, ""), below


def _neighbours(parent: Node) -> Looks:
    """Take a mapping's values, the last first, as examples of a new one."""
    return Looks(tuple((part, parent) for part in reversed(parent.values)))


def _block_neighbours(parent: Node) -> Looks:
    """Take those alone that stand on lines of their own: others show how short values look, not this one."""
    return Looks(tuple(pair for pair in _neighbours(parent).examples if pair[0].is_block))


def _gap(node: Node) -> str:
    return " " if node.is_absent else ""


def _literal_indent(tree: Tree, node: Node) -> int:
    """Find how far the lines of a block scalar are indented."""
    if node.style not in ("|", ">"):
        return 0
    lines = tree.text[node.content : node.end].splitlines()[1:]
    return next((len(line) - len(line.lstrip(" ")) for line in lines if line.strip()), 0)


def _append_in_flow(tree: Tree, node: Node, last: Node, written: str) -> Cuts:
    """Write a part before the closing bracket, on a line of its own if the last one has one."""
    text = tree.text
    start = last.start if node.kind is Kind.LIST else node.entries[-1][0].start
    if not stands_alone(text, start) or line_start(text, start) <= node.start:
        return (Cut(last.end, last.end, f", {written}"),)
    comma = skip_blanks(text, last.end)
    indent = text[line_start(text, start) : start]
    if text[comma] == ",":
        end = line_end(text, comma)
        return (Cut(end, end, f"{tree.newline}{indent}{written},"),)
    end = line_end(text, last.end)
    if end >= node.end:
        return (Cut(last.end, last.end, f",{tree.newline}{indent}{written}"),)
    return (Cut(last.end, last.end, ","), Cut(end, end, f"{tree.newline}{indent}{written}"))


def _blanks_between(tree: Tree, parts: Sequence[Node], *, otherwise: int) -> int:
    """Count the blank lines between the last two parts, if there are two."""
    return blank_count(tree.text, parts[-2].end, parts[-1].start) if len(parts) > 1 else otherwise


def _lines_behind(tree: Tree, last: Node, lines: Sequence[str], *, column: int, blanks: int) -> Cut:
    """Put lines behind a value and the comments that belong to it."""
    position = end_with_comments(tree.text, last.end, column)
    block = tree.newline.join([*[""] * blanks, *lines])
    is_behind_break = position > 0 and tree.text[position - 1] in "\r\n"
    return Cut(position, position, f"{block}{tree.newline}" if is_behind_break else f"{tree.newline}{block}")


def _indented(lines: Iterable[str], step: int) -> list[str]:
    return [" " * step + line if line else "" for line in lines]
