"""Unified diffs of the files that a plan changes, as `diff -u` writes them; secrets are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import unified_diff

from kloros_infra.ir.artifact import Artifact, Link
from kloros_infra.ir.observed import Observed
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.explain import printable
from kloros_infra.planner.file_changes import FileChange, file_changes
from kloros_infra.planner.redaction import redacted_lines
from kloros_infra.planner.text_keys import text_lines

NO_FILE = "/dev/null"


def plan_diffs(desired: Desired, observed: Observed) -> tuple[str, ...]:
    """Write the diffs of all files that differ, by path."""
    return text_diffs(file_changes(desired, observed).values())


def text_diffs(files: Iterable[FileChange]) -> tuple[str, ...]:
    """Write the diffs of some files."""
    return tuple(line for file in files for line in _diff(file))


def _diff(file: FileChange) -> Iterator[str]:
    before, after = (tuple(_lines(side)) for side in (file.before, file.after))
    old, new = (
        NO_FILE if side is None else f"{letter}/{file.path}" for letter, side in (("a", file.before), ("b", file.after))
    )
    yield from unified_diff(before, after, old, new, lineterm="")


def _lines(artifact: Artifact | None) -> Iterator[str]:
    if artifact is None:
        return
    if isinstance(artifact, Link):
        yield f"link to {printable(artifact.target)}"
        return
    if artifact.mode != 0o644:
        yield f"mode {artifact.mode:04o}"
    yield from map(printable, redacted_lines(text_lines(artifact.text)))
