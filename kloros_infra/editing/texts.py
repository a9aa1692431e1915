"""Text and edits → text. What an edit does is checked: the new text must say what the old one did, and the edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import assert_never

from kloros_infra.diagnostics import Problems, Span
from kloros_infra.editing import problems
from kloros_infra.editing.edits import Address, AppendItem, Edit, Remove, SetValue, Value
from kloros_infra.editing.find import Found, find
from kloros_infra.editing.meaning import data_without, expected_data, is_same
from kloros_infra.editing.nodes import Kind, Node, NotEditableError, Tree, node_data, read_nodes
from kloros_infra.editing.remove import remove_part
from kloros_infra.editing.splice import Cuts, UnusualSpellingError, add_key, append_item, begin, replace_scalar, spliced


def edit_text(text: str, edits: Sequence[Edit], *, file: str) -> tuple[str | None, Problems]:
    """Make edits one after another; None, and why, when one of them cannot be made."""
    tree, found = read_tree(text, file)
    for edit in edits:
        if tree is not None:
            tree, found = edit_tree(tree, edit, file)
    return (None, found) if tree is None else (tree.whole, ())


def read_tree(text: str, file: str) -> tuple[Tree | None, Problems]:
    """Lay a text out."""
    try:
        return read_nodes(text), ()
    except NotEditableError as error:
        return None, (problems.not_editable(file, error),)


def edit_tree(tree: Tree, edit: Edit, file: str) -> tuple[Tree | None, Problems]:
    """Make one edit; None, and why, when it cannot be made."""
    found = find(tree, edit.address)
    span = span_of(tree, found.node, file)
    if found.borrowed:
        return None, (problems.shared_value(span, edit.address, found.borrowed),)
    if leads_nowhere(found, edit):
        missing = str(found.missing[0])
        return None, (problems.nothing_there(file, edit.address, missing, found.known),)
    try:
        return _checked(tree, found, edit), ()
    except UnusualSpellingError as error:
        return None, (problems.unusual_spelling(span, edit.address, str(error)),)


def remove_at_once(tree: Tree, removals: Sequence[Remove]) -> Tree | None:
    """Make removals from different lists, all equally deep, in one go; None where each has to be made by itself."""
    found = [find(tree, removal.address) for removal in removals]
    if any(one.borrowed or one.missing for one in found):
        return None
    try:
        cuts = sorted((cut for one in found for cut in _removal(tree, one)), key=lambda cut: (cut.start, cut.end))
        are_apart = all(cut.end <= behind.start for cut, behind in pairwise(cuts))
        after = read_nodes(tree.mark + spliced(tree.text, cuts))
    except (NotEditableError, UnusualSpellingError):
        return None
    is_right = are_apart and is_same(node_data(after.root), data_without(tree, (one.path for one in found)))
    return after if is_right else None


def span_of(tree: Tree, node: Node, file: str) -> Span:
    """Say where a node stands, counting from 1."""
    return Span(file, tree.text.count("\n", 0, node.start) + 1, node.column + 1)


def leads_nowhere(found: Found, edit: Edit) -> bool:
    """Say whether parts are missing that an edit does not bring along: keys may be new, items of lists may not."""
    if isinstance(edit, Remove):
        return bool(found.missing)
    return any(not isinstance(part, str) for part in found.missing)


def _checked(tree: Tree, found: Found, edit: Edit) -> Tree:
    cuts = _cuts(tree, found, edit)
    try:
        after = read_nodes(tree.mark + spliced(tree.text, cuts))
    except NotEditableError as error:
        raise UnusualSpellingError("the text around it does not allow it") from error
    if not is_same(node_data(after.root), expected_data(tree, found, edit)):
        raise UnusualSpellingError("the text around it does not allow it")
    return after


def _cuts(tree: Tree, found: Found, edit: Edit) -> Cuts:
    match edit:
        case Remove():
            return _removal(tree, found)
        case AppendItem(value=value) if not found.missing:
            return _appended(tree, found, value)
        case AppendItem(value=value):
            return _added(tree, found, [value])
        case SetValue(value=value) if found.missing:
            return _added(tree, found, value)
        case SetValue(value=value):
            return _replaced(tree, found, value)
        case _ as never:
            assert_never(never)


def _removal(tree: Tree, found: Found) -> Cuts:
    if len(found.nodes) < 2:
        raise UnusualSpellingError("it is the whole file")
    place = next(index for index, part in enumerate(found.parent.values) if part is found.node)
    holder = found.nodes[-3] if len(found.nodes) > 2 else None
    return remove_part(tree, found.parent, holder, place)


def _appended(tree: Tree, found: Found, value: Value) -> Cuts:
    node = found.node
    if node.kind is Kind.LIST and node.items:
        return append_item(tree, node, value, is_section=len(found.nodes) == 2)
    if _is_empty(node, Kind.LIST):
        return begin(tree, node, _mapping_of(found), [value])
    raise UnusualSpellingError("there is no list")


def _added(tree: Tree, found: Found, value: Value) -> Cuts:
    key, nested = _nested(found.missing, value)
    if found.node.kind is Kind.MAPPING and found.node.entries:
        return add_key(tree, found.node, key, nested)
    if _is_empty(found.node, Kind.MAPPING):
        return begin(tree, found.node, _mapping_of(found), {key: nested})
    raise UnusualSpellingError("there is no mapping to which a key could be added")


def _replaced(tree: Tree, found: Found, value: Value) -> Cuts:
    if (
        len(found.nodes) < 2
        or found.node.kind is not Kind.SCALAR
        or (not isinstance(value, str) and isinstance(value, (Mapping, Sequence)))
    ):
        raise UnusualSpellingError("only single values are replaced")
    return replace_scalar(tree, found.node, found.parent, value)


def _nested(missing: Address, value: Value) -> tuple[str, Value]:
    """Put a value below the keys that are missing on the way to it."""
    first, *rest = (str(part) for part in missing)
    for key in reversed(rest):
        value = {key: value}
    return first, value


def _is_empty(node: Node, kind: Kind) -> bool:
    """Say whether nothing, null or empty brackets stand where a list or mapping could."""
    return (node.kind is kind and not node.values) or (node.kind is Kind.SCALAR and node_data(node) is None)


def _mapping_of(found: Found) -> Node:
    if len(found.nodes) < 2 or found.parent.kind is not Kind.MAPPING:
        raise UnusualSpellingError("it is no value of a mapping")
    return found.parent
