"""Files that differ, path by path, and why: models.yaml, or somebody on the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from kloros_infra.ir.artifact import Artifact, ArtifactTree, Link, TextFile
from kloros_infra.ir.generation import Manifest
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import Installed, Observed
from kloros_infra.ir.on_change import Kept
from kloros_infra.planner.desired import Desired


class Cause(StrEnum):
    """Why a file differs, in the words that a plan shows."""

    NEW = "not installed yet"
    CONFIGURED = "models.yaml asks for something else"
    GONE = "no longer in models.yaml"
    DESTROYED = "everything of ours is destroyed"
    ALTERED = "changed on the machine"
    MISSING = "removed on the machine"
    INTERRUPTED = "an earlier apply was interrupted"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path that differs; None stands for absent."""

    path: str
    before: Artifact | None
    after: Artifact | None
    cause: Cause


def digest(artifact: Artifact) -> str:
    """Give one value for a whole artifact, mode and kind included."""
    written = f"link {artifact.target}" if isinstance(artifact, Link) else f"{artifact.mode:o} {artifact.text}"
    return hashlib.sha256(written.encode(errors="surrogateescape")).hexdigest()


def installed_tree(tree: ArtifactTree) -> Mapping[str, str]:
    """Say what to remember of a tree once it is on the machine."""
    return {path: digest(tree[path]) for path in sorted(tree)}


def with_generation(installed: Installed, manifest: Manifest | None, layout: Layout) -> Installed:
    """Add what the current generation holds to what is remembered: that is ours even if the record is lost.

    Which profile is active is no part of a generation; with the record lost, the file that says so is ours with it.
    """
    if manifest is None:
        return installed
    held = {layout.content_path(name): expected for name, expected in manifest.files.items()}
    fixed = {path: digest(artifact) for path, artifact in manifest.fixed.items()}
    is_lost = not installed.digests
    chosen = {layout.profile_file: digest(TextFile(f"{manifest.profile}\n"))} if is_lost else {}
    return replace(installed, digests={**chosen, **fixed, **held, **installed.digests}, is_lost=is_lost)


MASK = Link("/dev/null")
"""What `systemctl mask` leaves in a unit's place; systemd.unit(5)."""


def foreign_paths(desired: Desired, observed: Observed) -> tuple[str, ...]:
    """List paths where something stands that we did not put there, and that differs from ours or overrides it.

    A mask is no such thing: it says what must not run. Nor is anything in a generation's folder, all of which is ours.
    """
    layout = desired.layout
    units = (unit for path in desired.tree if (unit := layout.unit_at(path)) is not None)
    overrides = {path for unit in units if observed.files.get(path := layout.override_path(unit)) not in (None, MASK)}
    different = (
        path
        for path in desired.tree.keys() & observed.files.keys()
        if observed.files[path] != desired.tree[path] and not layout.is_content(path)
    )
    return tuple(sorted({*overrides, *different} - observed.installed.digests.keys()))


def file_changes(desired: Desired, observed: Observed) -> dict[str, FileChange]:
    """Compare what we want and what we once installed with what is there; foreign files are left out."""
    foreign = frozenset(foreign_paths(desired, observed))
    paths = (desired.tree.keys() | observed.installed.digests.keys()) - foreign - frozenset(observed.unreadable)
    changes: dict[str, FileChange] = {}
    for path in sorted(paths):
        before, after = observed.files.get(path), desired.tree.get(path)
        if before != after:
            changes[path] = FileChange(path, before, after, _cause(path, desired, observed))
    return changes


def _cause(path: str, desired: Desired, observed: Observed) -> Cause:
    before, installed = observed.files.get(path), observed.installed
    if path not in desired.tree:
        return Cause.DESTROYED if desired.is_destroyed else Cause.GONE
    if path not in installed.digests:
        return Cause.NEW
    if before is not None and digest(before) == installed.digests[path]:
        return Cause.CONFIGURED
    if installed.is_unfinished:
        return Cause.INTERRUPTED
    return Cause.MISSING if before is None else Cause.ALTERED


def during(
    desired: Desired, observed: Observed, *, owed: frozenset[str], staged: int | None, kept: Mapping[str, Kept]
) -> Installed:
    """Say what to remember before the first write: old and new paths are all ours."""
    digests = {**observed.installed.digests, **installed_tree(desired.tree)}
    return Installed(digests, is_unfinished=True, owed=owed | observed.installed.owed, staged=staged, kept=kept)


def afterwards(desired: Desired, kept: Mapping[str, Kept]) -> Installed:
    """Say what to remember once every step is done."""
    return Installed(installed_tree(desired.tree), kept=kept)
