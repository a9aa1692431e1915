"""Address → the nodes on the way to it."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.editing.edits import Address, Where
from kloros_infra.editing.nodes import MERGE_KEY, Kind, Node, Tree


@dataclass(frozen=True, slots=True)
class Found:
    """How far an address leads: nodes from the root on, and the key or place of each within the one before.

    `borrowed` says how a value comes from elsewhere, if it does; `missing` is what of the address is not there.
    """

    nodes: tuple[Node, ...]
    path: tuple[str | int, ...] = ()
    borrowed: str = ""
    missing: Address = ()

    @property
    def node(self) -> Node:
        return self.nodes[-1]

    @property
    def parent(self) -> Node:
        return self.nodes[-2]

    @property
    def known(self) -> tuple[str, ...]:
        """List what could have stood in place of the first missing part."""
        match self.missing[:1]:
            case (Where(key=key),):
                names = (_resolved(item).get(key) for item in self.node.items)
                return tuple(name.text for name in names if name is not None)
            case _:
                return tuple(key.text for key, _ in self.node.entries)


def find(tree: Tree, address: Address) -> Found:
    """Follow an address as far as it leads."""
    found = Found((tree.root,), borrowed=_how_shared(tree.root, tree))
    for index, part in enumerate(address):
        step = _step(_resolved(found.node), part)
        if step is None:
            return Found(found.nodes, found.path, found.borrowed, address[index:])
        place, node, how = step
        borrowed = found.borrowed or how or _how_shared(node, tree)
        found = Found((*found.nodes, node), (*found.path, place), borrowed)
    return found


def _resolved(node: Node) -> Node:
    return node.items[0] if node.kind is Kind.ALIAS else node


def _how_shared(node: Node, tree: Tree) -> str:
    if node.kind is Kind.ALIAS:
        return f"repeats &{node.text}"
    return f"is marked &{node.anchor} and repeated elsewhere" if node.anchor in tree.shared else ""


def _step(node: Node, part: str | int | Where) -> tuple[str | int, Node, str] | None:
    """Find a part of a node: its key or place, itself, and how it comes from elsewhere if it does."""
    match part:
        case Where(key=key, value=value) if node.kind is Kind.LIST:
            for place, item in enumerate(node.items):
                name = _resolved(item).get(key)
                if name is not None and name.kind is Kind.SCALAR and name.text == value:
                    return place, item, ""
        case int() if node.kind is Kind.LIST and part < len(node.items):
            return part, node.items[part], ""
        case str() if node.kind is Kind.MAPPING:
            own = node.get(part)
            return (part, own, "") if own is not None else _merged(node, part)
    return None


def _merged(node: Node, key: str) -> tuple[str, Node, str] | None:
    """Find a key that `<<` brings in from other mappings."""
    merged = node.get(MERGE_KEY)
    if merged is None:
        return None
    for source in merged.items if merged.kind is Kind.LIST else (merged,):
        value = _resolved(source).get(key)
        if value is not None:
            return key, value, "comes in through <<"
    return None
