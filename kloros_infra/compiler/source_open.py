"""A list or mapping while it is read: what it holds so far, and how another mapping is merged into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kloros_infra.compiler.source_nodes import Branch, ListNode, MappingNode, Mark, Node


@dataclass(slots=True, eq=False)
class OpenBranch:
    """A list or mapping whose end has not come yet; `key` is the mapping key that waits for its value.

    `values` and `characters` are what the file held before it.
    """

    mark: Mark
    is_mapping: bool
    anchor: str | None
    values: int
    characters: int
    value: Any
    children: Any
    keys: dict[str, Mark] = field(default_factory=dict)
    merged: set[str] = field(default_factory=set)
    merge_mark: Mark | None = None
    key: str | None = None
    key_mark: Mark | None = None
    is_merging: bool = False
    height: int = 1

    @property
    def waits_for_key(self) -> bool:
        """Say whether what comes next is a key."""
        return self.is_mapping and self.key is None

    def begin(self, key: str, mark: Mark) -> Mark | None:
        """Take a key; give the place where it stands already, if it does."""
        first = None if key in self.merged else self.keys.get(key)
        self.key, self.key_mark, self.is_merging = key, mark, False
        self.keys[key] = mark
        self.merged.discard(key)
        return first

    def begin_merge(self, key: str, mark: Mark) -> Mark | None:
        """Take a merge key; give the place of an earlier one."""
        first = self.merge_mark
        self.key, self.key_mark, self.is_merging, self.merge_mark = key, mark, True, mark
        return first

    def put(self, node: Node) -> None:
        """Take a complete value, for the key that waits or as the next item."""
        if self.is_mapping:
            self.value[self.key] = node.value
            self.children[self.key] = node
            self.key = None
        else:
            self.value.append(node.value)
            self.children.append(node)

    def merge(self, other: MappingNode) -> None:
        """Take the keys of another mapping that are not here yet; they keep their places."""
        for key, child in other.children.items():
            if key not in self.keys:
                self.value[key] = child.value
                self.children[key] = child
                self.keys[key] = other.keys[key]
                self.merged.add(key)

    def close(self, file: str, values: int, characters: int) -> Branch:
        """Give the branch; `values` and `characters` are what the file holds by now."""
        values -= self.values
        characters -= self.characters
        if self.is_mapping:
            return MappingNode(
                file=file,
                mark=self.mark,
                values=values,
                characters=characters,
                height=self.height,
                value=self.value,
                children=self.children,
                keys=self.keys,
            )
        return ListNode(
            file=file,
            mark=self.mark,
            values=values,
            characters=characters,
            height=self.height,
            value=self.value,
            children=self.children,
        )
