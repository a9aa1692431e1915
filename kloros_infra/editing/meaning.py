"""What a text means after an edit, worked out from what it meant before: a second way to the same end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kloros_infra.editing.edits import AppendItem, Edit, Remove, Value
from kloros_infra.editing.find import Found
from kloros_infra.editing.nodes import Kind, Tree, node_data


def expected_data(tree: Tree, found: Found, edit: Edit) -> Any:
    """Give the data of the whole text after an edit."""
    root = node_data(tree.root)
    path = (*found.path, *(str(part) for part in found.missing))
    match edit:
        case Remove():
            del _at(root, path[:-1])[path[-1]]
        case AppendItem(value=value) if not found.missing and found.node.kind is Kind.LIST:
            _at(root, path).append(_plain(value))
        case AppendItem(value=value):
            _put(root, path, [_plain(value)])
        case _:
            _put(root, path, _plain(edit.value))
    return root


def data_without(tree: Tree, paths: Iterable[Sequence[str | int]]) -> Any:
    """Give the data of the whole text after removals from different lists and mappings."""
    root = node_data(tree.root)
    for path in paths:
        del _at(root, path[:-1])[path[-1]]
    return root


def is_same(data: Any, other: Any) -> bool:
    """Compare data more closely than == does: it takes 1 for true and 1.0, and knows no order of keys."""
    return repr(data) == repr(other)


def _at(data: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        data = _bare(data)[part]
    return _bare(data)


def _put(root: Any, path: Sequence[str | int], value: Any) -> None:
    holder = _bare(root)
    for part in path[:-1]:
        if isinstance(holder, dict) and _bare(holder.get(part)) is None:
            holder[part] = {}
        holder = _bare(holder[part])
    before = holder.get(path[-1]) if isinstance(holder, dict) else holder[path[-1]]
    # An anchor or tag stays in front of the new value.
    holder[path[-1]] = (*before[:-1], value) if isinstance(before, tuple) else value


def _bare(data: Any) -> Any:
    """Take data out of its anchor or tag."""
    return data[-1] if isinstance(data, tuple) else data


def _plain(value: Value) -> Any:
    match value:
        case Mapping():
            return {key: _plain(part) for key, part in value.items()}
        case Sequence() if not isinstance(value, str):
            return [_plain(part) for part in value]
        case _:
            return value
