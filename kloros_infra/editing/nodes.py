"""YAML text → a tree that knows where each value stands in the text, to the character.

The parser's marks end a list or mapping only where the next thing begins, behind comments and blank lines; here a node
ends where its own text ends. Positions count from 0; a byte order mark is no part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, assert_never

import yaml

from kloros_infra.compiler.source_events import Events, parser_events
from kloros_infra.compiler.source_values import plain_value

MAX_DEPTH = 64
MERGE_KEY = "<<"
BYTE_ORDER_MARK = "\ufeff"

_BLANKS_AND_COMMENTS = re.compile(r"(?:[ \t\r\n\x85\u2028\u2029]|(?:(?<=[\s])|^)#[^\r\n]*)*")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")


class Kind(StrEnum):
    """What a node is."""

    SCALAR = "scalar"
    LIST = "list"
    MAPPING = "mapping"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True)
class Node:
    """A value in the text: `start` is that of its anchor or tag if it has one, `content` that of the value itself.

    A mapping's `entries` are its keys and values, a list's `items` its values, an alias's only item what it repeats.
    """

    kind: Kind
    start: int
    content: int
    end: int
    column: int
    text: str = ""
    style: str = ""
    is_flow: bool = False
    anchor: str | None = None
    tag: str | None = None
    items: tuple[Node, ...] = ()
    entries: tuple[tuple[Node, Node], ...] = ()

    @property
    def is_block(self) -> bool:
        """Say whether it is a list or mapping whose parts stand on lines of their own."""
        return self.kind in (Kind.LIST, Kind.MAPPING) and not self.is_flow

    @property
    def is_absent(self) -> bool:
        """Say whether nothing is written: the value of `key:`."""
        return self.kind is Kind.SCALAR and self.start == self.end

    @property
    def values(self) -> tuple[Node, ...]:
        """Give the items of a list or the values of a mapping."""
        return self.items if self.kind is Kind.LIST else tuple(value for _, value in self.entries)

    def get(self, key: str) -> Node | None:
        """Find a mapping's own value; what `<<` brings in is not its own."""
        return next((value for name, value in self.entries if name.text == key and name.kind is Kind.SCALAR), None)


@dataclass(frozen=True, slots=True)
class Tree:
    """A text and its nodes; `shared` names the anchors that an alias repeats, `mark` is the text's byte order mark."""

    text: str
    root: Node
    shared: frozenset[str]
    mark: str = ""

    @property
    def whole(self) -> str:
        """Give the text as it stands in the file."""
        return self.mark + self.text

    @property
    def newline(self) -> str:
        """Give the line end that the text uses first."""
        found = re.search(r"\r\n|\n", self.text)
        return found[0] if found else "\n"


class NotEditableError(Exception):
    """The text cannot be laid out as a tree; says why, and in which line if there is one."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        self.reason, self.line, self.column = reason, line, column
        super().__init__(reason)


def read_nodes(text: str, *, events: Events = parser_events) -> Tree:
    """Lay a text out; raise NotEditableError where it is not one YAML document."""
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
    text = text.removeprefix(mark)
    builder = _Builder(text)
    try:
        builder.build(events(text))
    except yaml.MarkedYAMLError as error:
        place: Any = error.problem_mark or error.context_mark
        raise NotEditableError(str(error.problem), place.line + 1, place.column + 1) from error
    except yaml.YAMLError as error:
        raise NotEditableError(" ".join(str(error).split())) from error
    if builder.root is None:
        raise NotEditableError("the file holds no values")
    return Tree(text, builder.root, frozenset(builder.shared), mark)


def skip_blanks(text: str, position: int) -> int:
    """Find the next character that is neither blank nor part of a comment."""
    found = _BLANKS_AND_COMMENTS.match(text, position)
    return found.end() if found else position


def dashes(tree: Tree, node: Node) -> Iterator[int]:
    """Find the dash before each item of a block list."""
    position = node.content
    for item in node.items:
        yield position
        position = skip_blanks(tree.text, item.end)


def node_data(node: Node) -> Any:
    """Give a node's plain data; anchors, aliases and tags stay visible as tuples."""
    match node.kind:
        case Kind.ALIAS:
            return ("*", node.text)
        case Kind.LIST:
            data: Any = [node_data(item) for item in node.items]
        case Kind.MAPPING:
            data = {_key_data(key): node_data(value) for key, value in node.entries}
        case Kind.SCALAR:
            data = node.text if node.style or node.tag else plain_value(node.text)
        case _ as never:
            assert_never(never)
    decorations = tuple(word for word in (node.anchor, node.tag) if word is not None)
    return ("&", *decorations, data) if decorations else data


def _key_data(key: Node) -> str:
    return key.text if key.kind is Kind.SCALAR else repr(node_data(key))


def _start(event: yaml.Event) -> Any:
    """Give the mark that the parser always sets."""
    return event.start_mark


def _end(event: yaml.Event) -> Any:
    return event.end_mark


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    event: yaml.CollectionStartEvent
    parts: list[Node] = field(default_factory=list)


class _Builder:
    """Puts events together without recursing."""

    def __init__(self, text: str) -> None:
        self.root: Node | None = None
        self.shared: set[str] = set()
        self._text = text
        self._anchored: dict[str, Node] = {}
        self._open: list[_Open] = []

    def build(self, events: Iterable[yaml.Event]) -> None:
        for event in events:
            match event:
                case yaml.DocumentStartEvent() if self.root is not None:
                    raise NotEditableError("a second document starts here", _start(event).line + 1)
                case yaml.ScalarEvent():
                    self._add(self._scalar(event))
                case yaml.AliasEvent():
                    self._add(self._alias(event))
                case yaml.CollectionStartEvent():
                    self._begin(event)
                case yaml.CollectionEndEvent():
                    self._add(self._collection(self._open.pop(), event))

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        if len(self._open) == MAX_DEPTH:
            raise NotEditableError(f"values are nested more than {MAX_DEPTH} deep", _start(event).line + 1)
        self._open.append(_Open(event))

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        start, end = _start(event).index, _end(event).index
        style = event.style or ""
        if style in ("|", ">") and "+" not in self._text[start:end].split("\n", 1)[0]:
            end = start + len(self._text[start:end].rstrip(" \t\r\n"))
        return self._node(Kind.SCALAR, event, end, text=event.value, style=style, tag=event.tag, anchor=event.anchor)

    def _alias(self, event: yaml.AliasEvent) -> Node:
        name = str(event.anchor)
        self.shared.add(name)
        if name not in self._anchored:
            raise NotEditableError(f"nothing before this is marked &{name}", _start(event).line + 1)
        return self._node(Kind.ALIAS, event, _end(event).index, text=name, items=(self._anchored[name],))

    def _collection(self, opened: _Open, end_event: yaml.Event) -> Node:
        event = opened.event
        kind = Kind.LIST if isinstance(event, yaml.SequenceStartEvent) else Kind.MAPPING
        is_flow = bool(event.flow_style)
        entries, items = self._parts(kind, opened.parts, is_flow=is_flow, start=_start(event).index)
        last = items[-1] if items else entries[-1][1] if entries else None
        end = _end(end_event).index if is_flow or last is None else last.end
        facts = {"is_flow": is_flow, "tag": event.tag, "anchor": event.anchor}
        return self._node(kind, event, end, items=items, entries=entries, **facts)

    def _parts(
        self, kind: Kind, parts: list[Node], *, is_flow: bool, start: int
    ) -> tuple[tuple[tuple[Node, Node], ...], tuple[Node, ...]]:
        """Pair keys with values; put values that are not written where they would be."""
        if kind is Kind.MAPPING:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return tuple((key, self._placed(value, self._behind_colon(key))) for key, value in pairs), ()
        if is_flow:
            return (), tuple(parts)
        items: list[Node] = []
        dash = self._content(start)
        for part in parts:
            items.append(self._placed(part, dash + 1))
            dash = skip_blanks(self._text, items[-1].end)
        return (), tuple(items)

    def _placed(self, node: Node, position: int) -> Node:
        if node.is_absent and node.style == "":
            return replace(node, start=position, content=position, end=position)
        return node

    def _behind_colon(self, key: Node) -> int:
        position = skip_blanks(self._text, key.end)
        return position + 1 if self._text[position : position + 1] == ":" else key.end

    def _node(self, kind: Kind, event: yaml.Event, end: int, **facts: Any) -> Node:
        mark = _start(event)
        content = min(self._content(mark.index), end)
        column = mark.column if content == mark.index else self._column(content)
        return Node(kind, mark.index, content, end, column, **facts)

    def _content(self, start: int) -> int:
        found = _PROPERTIES.match(self._text, start)
        return skip_blanks(self._text, found.end()) if found and found.end() > start else start

    def _column(self, position: int) -> int:
        return position - max(self._text.rfind(end, 0, position) for end in "\n\r") - 1

    def _add(self, node: Node) -> None:
        if node.anchor is not None:
            self._anchored[node.anchor] = node
        if self._open:
            self._open[-1].parts.append(node)
        else:
            self.root = node
