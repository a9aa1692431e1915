"""Edits of a models.yaml and the files that it includes: each is made in the file where the thing stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kloros_infra.diagnostics import Problems
from kloros_infra.editing.edits import Address, AppendItem, Edit, Remove, Where
from kloros_infra.editing.find import find
from kloros_infra.editing.nodes import Tree
from kloros_infra.editing.texts import edit_tree, read_tree, remove_at_once


def edit_project(texts: Mapping[str, str], edits: Sequence[Edit]) -> tuple[Mapping[str, str] | None, Problems]:
    """Make edits on several texts by name, the root's first; give those that differ, in the order to write them.

    The text of the last edit comes last: put first what others refer to.
    """
    trees: dict[str, Tree] = {}
    for name, text in texts.items():
        tree, problems = read_tree(text, name)
        if tree is None:
            return None, problems
        trees[name] = tree
    changed: dict[str, str] = {}
    for group in _in_groups(trees, edits):
        name = home_of(trees, group[0])
        tree, problems = _edited(trees[name], group, name)
        if tree is None:
            return None, problems
        trees[name] = tree
        changed.pop(name, None)
        changed[name] = tree.whole
    return {name: text for name, text in changed.items() if text != texts[name]}, ()


def _edited(tree: Tree, group: Sequence[Edit], file: str) -> tuple[Tree | None, Problems]:
    """Make edits on one text; removals in one go where possible, since reading the text again takes its time."""
    removals = [edit for edit in group if isinstance(edit, Remove)]
    if len(removals) == len(group) > 1 and (at_once := remove_at_once(tree, removals)) is not None:
        return at_once, ()
    after: Tree | None = tree
    problems: Problems = ()
    for edit in group:
        if after is not None:
            after, problems = edit_tree(after, edit, file)
    return after, problems


def _in_groups(trees: Mapping[str, Tree], edits: Sequence[Edit]) -> Iterator[Sequence[Edit]]:
    """Put removals together that can be made in one go: of different lists in one text, all equally deep.

    What is removed is named by what it holds, so that the order does not matter; other edits stay in their order.
    """
    if any(not isinstance(edit, Remove) or not isinstance(edit.address[-1], Where) for edit in edits):
        yield from ((edit,) for edit in edits)
        return
    groups: dict[tuple[str, int, int], list[Edit]] = {}
    turns: Counter[Address] = Counter()
    for edit in edits:
        holder = edit.address[:-1]
        groups.setdefault((home_of(trees, edit), len(holder), turns[holder]), []).append(edit)
        turns[holder] += 1
    yield from groups.values()


def home_of(trees: Mapping[str, Tree], edit: Edit) -> str:
    """Choose the text for an edit: the one that holds its place, or else most of the way there; the root's in doubt."""
    root, *_ = trees
    reached = {name: len(find(tree, edit.address).path) for name, tree in trees.items()}
    best = max(reached.values())
    homes = [name for name, length in reached.items() if length == best]
    # With a file for each model, a new one belongs in none of the others' files.
    is_spread = isinstance(edit, AppendItem) and len(edit.address) == 1 and len(homes) > 1
    return root if is_spread else homes[0]
