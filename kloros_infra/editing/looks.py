"""What stands beside a new piece of text, so that it can be written in the same manner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kloros_infra.editing.nodes import Kind, Node

INDENT = 2


@dataclass(frozen=True, slots=True)
class Looks:
    """Values like the new one, nearest first, each with the mapping that holds it if one does."""

    examples: tuple[tuple[Node, Node | None], ...] = ()

    def at_key(self, key: str) -> Looks:
        """Give the examples' values of a key, or, where none has the key, of any key."""
        mappings = [node for node, _ in self.examples if node.kind is Kind.MAPPING]
        same = [(value, node) for node in mappings if (value := node.get(key)) is not None]
        return Looks(tuple(same))

    def at_any_key(self) -> Looks:
        """Give all values of the examples: what a mapping whose keys are names has in common."""
        mappings = [node for node, _ in self.examples if node.kind is Kind.MAPPING]
        return Looks(tuple((value, node) for node in mappings for _, value in reversed(node.entries)))

    def item(self) -> Looks:
        """Give the items of the examples."""
        lists = [node for node, _ in self.examples if node.kind is Kind.LIST]
        return Looks(tuple((item, None) for node in lists for item in reversed(node.items)))

    def first(self, kind: Kind) -> tuple[Node, Node | None] | None:
        """Give the nearest example of a kind that is not empty."""
        return next(((node, parent) for node, parent in self.examples if node.kind is kind and _has_parts(node)), None)

    @property
    def quote(self) -> str:
        """Say which quotes the nearest example has: none, single or double."""
        return next((n.style if n.style in "'\"" else "" for n, _ in self.examples if n.kind is Kind.SCALAR), "")


def _has_parts(node: Node) -> bool:
    return bool(node.entries or node.items)


def step_of(node: Node, parent: Node | None, *, otherwise: int) -> int:
    """Say how far a block list or mapping stands to the right of the mapping that holds it."""
    return node.column - parent.column if parent is not None and node.is_block else otherwise


def value_column(node: Node) -> int | None:
    """Find the column at which a mapping's values are lined up, None where they follow their keys as they come."""
    gaps = [(value.column, value.start - key.end) for key, value in node.entries if _is_beside(key, value)]
    columns = Counter(column for column, _ in gaps)
    if len(columns) != 1 or max(gap for _, gap in gaps) <= len(": "):
        return None
    return next(iter(columns))


def _is_beside(key: Node, value: Node) -> bool:
    return not value.is_block and not value.is_absent and value.style not in ("|", ">") and value.column > key.column


def gap_after_dash(node: Node, dashes: Iterable[int]) -> int:
    """Say how many blanks stand between a list's last dash and its item."""
    *_, dash = dashes
    gap = node.items[-1].start - dash - 1
    return gap if 0 < gap <= 8 else 1
