"""What a unit's process is started by, as one side of a comparison has it, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from kloros_infra.ir.artifact import Artifact, text_of
from kloros_infra.ir.generation import DesiredUnit
from kloros_infra.ir.on_change import Definition
from kloros_infra.ir.unit_keys import (
    ENVIRONMENT_FILE,
    EXEC_START,
    WEIGHTS_KEY,
    env_keys,
    environment_files,
    program,
    restart_keys,
    unit_keys,
)
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import digest

PORT = "LLAMA_ARG_PORT"


class Difference(StrEnum):
    """Why a process does not run by its definition, in the words that a plan shows."""

    DEFINITION = "its definition differs"
    COMMAND = "its command differs"
    ENVIRONMENT = "its environment differs"
    PROGRAM = "its program differs"
    WEIGHTS = "its weights differ"


CONFINING_ONLY = frozenset({Difference.DEFINITION})
"""What changes how a server is held, and none of its answers: limits, sandbox, and how it is stopped."""


def definition(
    unit: DesiredUnit, files: Mapping[str, Artifact], weights: Mapping[str, str], desired: Desired
) -> Definition:
    """Say what a unit is started by where these files and weights are."""
    text = text_of(files.get(desired.layout.unit_path(unit.unit)))
    launcher = files.get(relative(program(text), desired))
    return Definition(
        unit=text,
        environment=environment(unit.unit, files, desired),
        program="" if launcher is None else digest(launcher),
        weights={path: weights[path] for path in unit.weights if path in weights},
    )


def differences(before: Definition, after: Definition) -> Iterator[Difference]:
    """Find what a process that was started by one must be restarted for to run by the other."""
    keys = restart_keys(before.unit, after.unit)
    if keys - {ENVIRONMENT_FILE, EXEC_START}:
        yield Difference.DEFINITION
    if EXEC_START in keys:
        yield Difference.COMMAND
    if ENVIRONMENT_FILE in keys or before.environment != after.environment:
        yield Difference.ENVIRONMENT
    if program(before.unit) == program(after.unit) and before.program != after.program:
        yield Difference.PROGRAM
    if _weights_differ(before, after):
        yield Difference.WEIGHTS


def _weights_differ(before: Definition, after: Definition) -> bool:
    """Say whether weights were replaced under a process: in the store, or, by what its unit was made for, before.

    What one side knows nothing of was not replaced: it is not there yet, or nobody needs it any more.
    """
    common = before.weights.keys() & after.weights.keys()
    old, new = (unit_keys(side.unit).get(WEIGHTS_KEY) for side in (before, after))
    is_other_unit = None not in (old, new) and old != new
    return is_other_unit or any(before.weights[path] != after.weights[path] for path in common)


def environment(unit: str, files: Mapping[str, Artifact], desired: Desired) -> dict[str, str]:
    """Read what a unit's env files set, as one side of the comparison has them."""
    text = text_of(files.get(desired.layout.unit_path(unit)))
    values: dict[str, str] = {}
    for path in env_paths(text, desired):
        values |= env_keys(text_of(files.get(path)))
    return values


def env_paths(text: str, desired: Desired) -> tuple[str, ...]:
    """List the env files that a unit file names, relative to the root."""
    return tuple(relative(path, desired) for path in environment_files(text))


def relative(path: str, desired: Desired) -> str:
    """Name a path that a unit file names as plans do: relative to the root."""
    return path.removeprefix(desired.layout.absolute(""))
