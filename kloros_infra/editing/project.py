"""Edits of a models.yaml and the files that it includes: each is made in the file where the thing stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kloros_infra.diagnostics import Problems
from kloros_infra.editing.edits import AppendItem, Edit
from kloros_infra.editing.find import find
from kloros_infra.editing.nodes import Tree
from kloros_infra.editing.texts import edit_tree, read_tree


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
    for edit in edits:
        name = home_of(trees, edit)
        tree, problems = edit_tree(trees[name], edit, name)
        if tree is None:
            return None, problems
        trees[name] = tree
        changed.pop(name, None)
        changed[name] = tree.whole
    return {name: text for name, text in changed.items() if text != texts[name]}, ()


def home_of(trees: Mapping[str, Tree], edit: Edit) -> str:
    """Choose the text for an edit: the one that holds its place, or else most of the way there; the root's in doubt."""
    root, *_ = trees
    reached = {name: len(find(tree, edit.address).path) for name, tree in trees.items()}
    best = max(reached.values())
    homes = [name for name, length in reached.items() if length == best]
    # With a file for each model, a new one belongs in none of the others' files.
    is_spread = isinstance(edit, AppendItem) and len(edit.address) == 1 and len(homes) > 1
    return root if is_spread else homes[0]
