"""Which generation a machine goes to: one that is staged now, one that it has already, or none."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kloros_infra.ir.artifact import Artifact, TextFile
from kloros_infra.ir.generation import Generation, History, Manifest
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import Installed, Observed
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import digest


@dataclass(frozen=True, slots=True)
class Move:
    """From one generation to another, None standing for no generation at all.

    `manifest` is that of a generation to stage; `leftover` is one that an interrupted apply staged and nobody wants.
    """

    previous: int | None
    goal: int | None
    manifest: Manifest | None
    leftover: int | None

    @property
    def is_flip(self) -> bool:
        return self.goal != self.previous


def move(desired: Desired, observed: Observed) -> Move:
    """Decide about the generation; one that is there already, and as desired, stays."""
    previous, leftover = observed.history.current, uncommitted(observed.installed, observed.history)
    if desired.is_destroyed:
        return Move(previous, None, None, leftover)
    if desired.generation is not None:
        return Move(previous, desired.generation, None, None if leftover == desired.generation else leftover)
    manifest = manifest_of(desired, next_number(observed))
    if not _is_new(manifest, observed):
        return Move(previous, previous, None, leftover)
    return Move(previous, manifest.number, manifest, None if leftover == manifest.number else leftover)


def _is_new(manifest: Manifest, observed: Observed) -> bool:
    """Say whether the current generation was made for something else; files that somebody changed need no new one."""
    current, history = observed.manifest, observed.history
    if current is None or history.current not in history.numbers:
        return True
    return (current.files, current.fixed) != (manifest.files, manifest.fixed)


def uncommitted(installed: Installed, history: History) -> int | None:
    """Give the generation that an interrupted apply staged and never made current."""
    staged = installed.staged
    return staged if staged in history.numbers and staged != history.current else None


def next_number(observed: Observed) -> int:
    """Number the next generation; one that was never current gives up its number.

    The current one may be gone, if somebody removed its folder: its number is taken all the same.
    """
    left, history = uncommitted(observed.installed, observed.history), observed.history
    taken = {number for number in history.numbers if number != left} | history.marked
    return max(taken, default=0) + 1


def manifest_of(desired: Desired, number: int) -> Manifest:
    """Write down all that going back to this will take; what /run holds is the machine's present, not part of it."""
    layout = desired.layout
    fixed = {
        path: desired.tree[path]
        for path in sorted(desired.tree)
        if not layout.is_content(path) and not path.startswith(f"{layout.run}/")
    }
    return Manifest(
        number=number,
        provenance=desired.provenance,
        profile=desired.profile,
        files={name: digest(artifact) for name, artifact in content_of(desired).items()},
        fixed=fixed,
        units=tuple(replace(unit, run=unit.run_in_profile) if unit.profile else unit for unit in desired.units),
        weights=(*desired.weights, *desired.other_weights),
    )


def content_of(desired: Desired) -> dict[str, Artifact]:
    """Give the files of the generation as seen from its folder."""
    layout, tree = desired.layout, desired.tree
    return {layout.content_name(path): tree[path] for path in sorted(tree) if layout.is_content(path)}


def desired_of(generation: Generation, layout: Layout, profile: str) -> Desired:
    """Say what the machine looks like at a generation while `profile` is active."""
    manifest = generation.manifest
    content = {layout.content_path(name): artifact for name, artifact in generation.files.items()}
    chosen = {layout.profile_file: TextFile(f"{profile}\n")} if profile else {}
    return Desired(
        tree={**content, **manifest.fixed, **chosen},
        layout=layout,
        profile=profile,
        units=tuple(unit.under(profile) for unit in manifest.units),
        weights=manifest.weights,
        generation=manifest.number,
        provenance=manifest.provenance,
    )


def profile_at(manifest: Manifest, active: str | None) -> str:
    """Give the profile that is active on the machine if the generation has it, else the one that it was made with."""
    known = {profile for unit in manifest.units for profile in unit.profiles}
    return active if active and active in known else manifest.profile


def outdated(history: History, keep: int) -> tuple[int, ...]:
    """List the generations that can go: not among the newest, and with no mark on them."""
    newest = history.numbers[-keep:] if keep else ()
    return tuple(number for number in history.numbers if number not in newest and number not in history.marked)
