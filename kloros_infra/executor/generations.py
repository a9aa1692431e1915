"""Generations as values: stage one, read one back, and notice when it is no longer what was staged."""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.executor import manifest_json
from kloros_infra.executor.manifest_json import MANIFEST
from kloros_infra.executor.ports import Generations
from kloros_infra.ir.artifact import ArtifactTree, TextFile
from kloros_infra.ir.generation import Generation, Manifest
from kloros_infra.ir.plan import StageGeneration
from kloros_infra.planner.file_changes import digest


def files_of(step: StageGeneration) -> ArtifactTree:
    """Give the files of a generation's folder, manifest included."""
    return {**step.tree, MANIFEST: TextFile(manifest_json.to_text(step.manifest))}


def current_manifest(generations: Generations) -> Manifest | None:
    """Read the manifest of the current generation; None without one, or when it is damaged."""
    number = generations.history().current
    return None if number is None else manifest_at(generations, number)


def manifest_at(generations: Generations, number: int) -> Manifest | None:
    """Read the manifest of a generation; None when it is not there or damaged."""
    found = generations.read(number, MANIFEST)
    return manifest_json.from_text(found.text) if isinstance(found, TextFile) else None


def read_generation(generations: Generations, number: int) -> Generation:
    """Read a generation; raise ObstacleError when it is not there, or not as it was staged."""
    numbers = generations.history().numbers
    if number not in numbers:
        raise ObstacleError([not_there(number, numbers)])
    manifest = manifest_at(generations, number)
    if manifest is None:
        raise ObstacleError([_damaged(number, MANIFEST)])
    files = {}
    for name, expected in manifest.files.items():
        artifact = generations.read(number, name)
        if artifact is None or digest(artifact) != expected:
            raise ObstacleError([_damaged(number, name)])
        files[name] = artifact
    return Generation(manifest, files)


def former_generation(generations: Generations, number: int) -> int | None:
    """Find the newest generation before one that can be gone to and is not the same; None without any."""
    after = manifest_at(generations, number)
    for earlier in sorted((one for one in generations.history().numbers if one < number), reverse=True):
        try:
            before = read_generation(generations, earlier).manifest
        except ObstacleError:
            continue
        if after is None or (before.files, before.fixed) != (after.files, after.fixed):
            return earlier
    return None


def not_there(number: int, numbers: Iterable[int]) -> Diagnostic:
    """Report a generation that this machine does not keep."""
    kept = ", ".join(map(str, numbers)) or "none"
    return Diagnostic(
        code="KI587",
        summary="No such generation",
        detail=f"This machine has no generation {number}; it keeps {kept}.",
        hint="`kloros-infra generations` lists them.",
    )


def _damaged(number: int, name: str) -> Diagnostic:
    return Diagnostic(
        code="KI588",
        summary="A generation is damaged",
        detail=f"{name} of generation {number} is missing or was changed since the generation was made.",
        hint="Go to another generation, or apply: that makes a new one from models.yaml.",
    )
