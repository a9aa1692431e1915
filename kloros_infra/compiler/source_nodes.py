"""What a YAML text holds: values, each with the place where it is written.

Nodes are made once for every value of a file, a hundred thousand for a large one. So they keep what the parser gives
them, and places are worked out when someone asks. A node that aliases repeat is shared, not copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from kloros_infra.compiler.source_values import PlainValue
from kloros_infra.diagnostics import Span


class Mark(Protocol):
    """A place as PyYAML's parsers give it: everything counts from 0, in characters."""

    @property
    def index(self) -> int: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True)
class OwnMark:
    """A place found without a parser."""

    index: int
    line: int
    column: int


def span_of(file: str, mark: Mark) -> Span:
    """Give a place as people count it."""
    return Span(file, mark.line + 1, mark.column + 1)


@dataclass(slots=True, eq=False)
class Scalar:
    """A single value, and its text as written."""

    file: str
    mark: Mark
    value: PlainValue
    written: str


@dataclass(slots=True, eq=False, kw_only=True)
class _Branch:
    """`values` and `characters` count what is in it with every alias written out, `height` the levels."""

    file: str
    mark: Mark
    values: int
    characters: int
    height: int


@dataclass(slots=True, eq=False, kw_only=True)
class ListNode(_Branch):
    """A list."""

    value: list[Any]
    children: list[Node]

    def child(self, part: str | int) -> Node | None:
        """Find an item by its index."""
        return self.children[part] if isinstance(part, int) and part in range(len(self.children)) else None


@dataclass(slots=True, eq=False, kw_only=True)
class MappingNode(_Branch):
    """A mapping; `keys` says where its keys stand."""

    value: dict[str, Any]
    children: dict[str, Node]
    keys: dict[str, Mark]

    def child(self, part: str | int) -> Node | None:
        """Find a value by its key."""
        return self.children.get(part) if isinstance(part, str) else None


Branch = ListNode | MappingNode
Node = Scalar | Branch
