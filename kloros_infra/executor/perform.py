"""Perform one step, and say beforehand how to undo it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.generations import files_of, read_generation
from kloros_infra.executor.machine import Machine
from kloros_infra.executor.readiness import await_ready, check_running, state_of
from kloros_infra.executor.rpc_readiness import ask_for_servers
from kloros_infra.ir.generation import Manifest
from kloros_infra.ir.observed import UnitState
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import (
    AwaitReady,
    CheckRunning,
    FlipCurrent,
    MarkLastGood,
    RecordInstalled,
    ReloadManager,
    RemoveArtifact,
    RemoveGeneration,
    RemoveWeights,
    ResetFailed,
    RestartUnit,
    StageGeneration,
    StartUnit,
    Step,
    StopUnit,
    VerifyGeneration,
    WriteArtifact,
)

Pids = dict[str, int]
"""The main process of each unit that was started, as it was when the unit was let through."""


def perform(step: Step, machine: Machine, pids: Pids) -> None:  # noqa: C901, PLR0912 - one branch per kind of step
    """Carry one step out, and note processes that it started; every step may be repeated."""
    match step:
        case PlaceWeights():
            machine.weights.place(step, machine.display.progress)
        case WriteArtifact():
            machine.files.write(step.path, step.artifact)
        case RemoveArtifact():
            machine.files.remove(step.path)
        case StageGeneration():
            machine.generations.stage(step.number, files_of(step))
        case VerifyGeneration():
            verify(step, machine)
        case FlipCurrent():
            machine.generations.flip(step.number)
        case MarkLastGood():
            machine.generations.mark_last_good(step.number)
        case RemoveGeneration():
            machine.generations.remove(step.number)
        case ResetFailed():
            machine.manager.reset_failed(step.units)
        case ReloadManager():
            machine.manager.reload()
        case StartUnit() | RestartUnit():
            pids[step.unit] = _start(step, machine)
        case StopUnit():
            machine.manager.stop(step.unit)
        case AwaitReady():
            pids[step.unit] = let_through(step, machine)
        case CheckRunning():
            check_running(step, machine, pids)
        case RecordInstalled():
            machine.files.record_installed(step.installed)
        case RemoveWeights():
            machine.weights.remove(step.destination)
        case _ as never:
            assert_never(never)


def _start(step: StartUnit | RestartUnit, machine: Machine) -> int:
    """Start a unit, or start it anew, and give its process."""
    ask_for_servers(step.unit, machine)
    if isinstance(step, RestartUnit):
        machine.manager.restart(step.unit)
    else:
        machine.manager.start(step.unit)
    return state_of(step.unit, machine).main_pid


def let_through(step: AwaitReady, machine: Machine) -> int:
    """Wait until a unit answers, have the gate look at it, and give its process; raise StepFailedError."""
    state = await_ready(step, machine)
    stop_or_warn(machine.gate.problems(step), machine)
    return state.main_pid


def verify(step: VerifyGeneration, machine: Machine) -> None:
    """Read a generation back and have its units checked; raise ObstacleError or StepFailedError."""
    read_generation(machine.generations, step.number)
    stop_or_warn(machine.staged_check.problems(step.number, step.exposure_limit), machine)


def stop_or_warn(problems: Problems, machine: Machine) -> None:
    """Raise StepFailedError where something is an error, and show it otherwise."""
    if has_errors(problems):
        raise StepFailedError(problems)
    if problems:
        machine.display.warn(problems)


def undo_of(step: Step, machine: Machine) -> Step | None:  # noqa: PLR0911 - one return per kind of step
    """Say what undoes a step that has not been performed yet; None where nothing is to be undone.

    Placed weights stay: they are verified, nothing refers to them, and the next apply is spared the transfer.
    """
    match step:
        case WriteArtifact(path=path) | RemoveArtifact(path=path):
            before = machine.files.read(path)
            return RemoveArtifact(path) if before is None else WriteArtifact(path, before)
        case StageGeneration(number=number):
            return RemoveGeneration(number)
        case FlipCurrent():
            return FlipCurrent(machine.generations.history().current)
        case MarkLastGood():
            return MarkLastGood(machine.generations.history().last_good)
        case ReloadManager():
            return step
        case StartUnit(unit=unit) | RestartUnit(unit=unit) | StopUnit(unit=unit):
            return _undo_of_unit_step(step, state_of(unit, machine))
        case RecordInstalled():
            return RecordInstalled(machine.files.installed())
        case PlaceWeights() | RemoveWeights() | RemoveGeneration() | VerifyGeneration() | ResetFailed():
            return None
        case AwaitReady() | CheckRunning():
            return None
        case _ as never:
            assert_never(never)


def _undo_of_unit_step(step: StartUnit | RestartUnit | StopUnit, before: UnitState) -> Step | None:
    if isinstance(step, StopUnit):
        return StartUnit(step.unit) if before.is_up else None
    if not before.is_up:
        return StopUnit(step.unit)
    # Starting what runs does nothing; starting what waits for its next attempt does, and so does a restart.
    is_left_alone = isinstance(step, StartUnit) and before.is_active
    return None if is_left_alone else RestartUnit(step.unit)


def undo_order(undos: tuple[Step, ...], before: Manifest | None) -> tuple[Step, ...]:
    """Order undoing steps, given in the order in which their steps were performed.

    Latest first, with one exception: a unit can run by its old definition again only when the old files are back
    and the manager has read them, so restarts and starts follow the files and one reload. What the generation
    `before` says of readiness is waited for.
    """
    latest_first = tuple(reversed(undos))
    stops = (step for step in latest_first if isinstance(step, StopUnit))
    files = (step for step in latest_first if isinstance(step, WriteArtifact | RemoveArtifact | FlipCurrent))
    reload = (ReloadManager(),) if any(isinstance(step, ReloadManager) for step in undos) else ()
    starts = tuple(step for step in latest_first if isinstance(step, StartUnit | RestartUnit))
    rest = (step for step in latest_first if isinstance(step, MarkLastGood | RemoveGeneration | RecordInstalled))
    return (*stops, *files, *reload, *starts, *_waits(starts, before), *rest)


def _waits(starts: tuple[StartUnit | RestartUnit, ...], before: Manifest | None) -> Iterator[AwaitReady]:
    started = {step.unit for step in starts}
    for unit in () if before is None else before.units:
        if unit.unit in started and unit.ready_url is not None:
            yield AwaitReady(unit.unit, unit.ready_url, unit.timeout_s, unit.gate)
