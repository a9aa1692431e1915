"""What differs inside files that are neither units nor env files: routing.json by key, the rest by line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import zip_longest

from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.ir.plan import KeyChange
from kloros_infra.ir.unit_keys import key_changes

# What names a member of a list in routing.json, so that a new first model does not shift all the others.
NAMING_KEYS = ("id", "instance", "name")


def json_keys(text: str) -> dict[str, str] | None:
    """Flatten JSON to dotted keys; None when it is not JSON, as a file changed by hand may be."""
    found: dict[str, str] = {}
    try:
        _flatten(json.loads(text), "", found)
    except (ValueError, RecursionError):
        return None
    return found


def _flatten(value: object, prefix: str, found: dict[str, str]) -> None:
    match value:
        case dict():
            for key, inner in value.items():
                _flatten(inner, f"{prefix}.{key}" if prefix else str(key), found)
        case list() if any(isinstance(inner, dict | list) for inner in value):
            for index, inner in enumerate(value):
                _flatten(inner, f"{prefix}.{_member_name(inner, index)}", found)
        case _:
            found[prefix] = json.dumps(value, ensure_ascii=False)


def _member_name(member: object, index: int) -> str:
    if isinstance(member, dict):
        for key in NAMING_KEYS:
            if isinstance(member.get(key), str):
                return str(member[key])
    return str(index)


def text_lines(text: str) -> list[str]:
    """Split a text at line feeds alone: str.splitlines would also cut at characters that may stand in a value."""
    return text.removesuffix("\n").split("\n") if text else []


def line_changes(before: str, after: str) -> tuple[KeyChange, ...]:
    """List the lines that differ, numbered as in the newer text."""
    old, new = text_lines(before), text_lines(after)
    changes: list[KeyChange] = []
    for tag, old_from, old_to, new_from, new_to in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            pairs = zip_longest(old[old_from:old_to], new[new_from:new_to])
            changes += (KeyChange(f"line {new_from + 1 + i}", was, now) for i, (was, now) in enumerate(pairs))
    return tuple(changes)


def text_changes(before: str, after: str) -> tuple[KeyChange, ...]:
    """Compare by key where both are JSON, otherwise by line."""
    old, new = json_keys(before), json_keys(after)
    if old is None or new is None:
        return line_changes(before, after)
    return _with_whole_members(key_changes(old, new), _members(before), _members(after))


def _members(text: str) -> frozenset[str]:
    """Name the members of the lists at the top: `models.code`."""
    table = json.loads(text)
    lists = table.items() if isinstance(table, dict) else ()
    return frozenset(
        f"{key}.{_member_name(member, index)}"
        for key, value in lists
        if isinstance(value, list)
        for index, member in enumerate(value)
        if isinstance(member, dict)
    )


def _with_whole_members(
    changes: Iterable[KeyChange], old: frozenset[str], new: frozenset[str]
) -> tuple[KeyChange, ...]:
    """Write one line for a member that is on one side only, and not one for each of its keys."""
    whole = old ^ new
    found: list[KeyChange] = []
    sizes: Counter[str] = Counter()
    for change in changes:
        member = next((one for one in _prefixes(change.key) if one in whole), None)
        if member is None:
            found.append(change)
        else:
            sizes[member] += 1
    for member, size in sizes.items():
        text = f"({size} keys)"
        found.append(KeyChange(member, text, None) if member in old else KeyChange(member, None, text))
    return tuple(sorted(found, key=lambda change: change.key))


def _prefixes(key: str) -> Iterator[str]:
    """List what stands before each dot of a key, the longest first: names of members may have dots themselves."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def artifact_changes(before: Artifact, after: Artifact) -> tuple[KeyChange, ...]:
    """Compare two artifacts that stand at the same path: kind, mode, target, content."""
    match before, after:
        case Link(target=was), Link(target=now):
            return (KeyChange("link", was, now),)
        case TextFile(), TextFile():
            modes = key_changes({"mode": f"{before.mode:04o}"}, {"mode": f"{after.mode:04o}"})
            return modes + (text_changes(before.text, after.text) if before.text != after.text else ())
        case _:
            return (KeyChange("kind", _kind(before), _kind(after)),)


def _kind(artifact: Artifact) -> str:
    return f"link to {artifact.target}" if isinstance(artifact, Link) else "file"
