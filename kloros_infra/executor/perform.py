"""Perform one step, and say beforehand how to undo it."""

from __future__ import annotations

from typing import assert_never

from kloros_infra.executor.machine import Machine
from kloros_infra.executor.readiness import await_ready
from kloros_infra.ir.plan import (
    AwaitReady,
    PlaceWeights,
    RecordInstalled,
    ReloadManager,
    RemoveArtifact,
    RemoveWeights,
    RestartUnit,
    StartUnit,
    Step,
    StopUnit,
    WriteArtifact,
)


def perform(step: Step, machine: Machine) -> None:  # noqa: C901 - one branch per kind of step
    """Carry one step out; every step may be repeated."""
    match step:
        case PlaceWeights():
            machine.weights.place(step, machine.display.progress)
        case WriteArtifact():
            machine.files.write(step.path, step.artifact)
        case RemoveArtifact():
            machine.files.remove(step.path)
        case ReloadManager():
            machine.manager.reload()
        case StartUnit():
            machine.manager.start(step.unit)
        case RestartUnit():
            machine.manager.restart(step.unit)
        case StopUnit():
            machine.manager.stop(step.unit)
        case AwaitReady():
            await_ready(step, machine)
        case RecordInstalled():
            machine.files.record_installed(step.installed)
        case RemoveWeights():
            machine.weights.remove(step.destination)
        case _ as never:
            assert_never(never)


def undo_of(step: Step, machine: Machine) -> Step | None:
    """Say what undoes a step that has not been performed yet; None where nothing is to be undone.

    Placed weights stay: they are verified, nothing refers to them, and the next apply is spared the transfer.
    """
    match step:
        case WriteArtifact(path=path) | RemoveArtifact(path=path):
            before = machine.files.read(path)
            return RemoveArtifact(path) if before is None else WriteArtifact(path, before)
        case ReloadManager():
            return step
        case StartUnit(unit=unit) | RestartUnit(unit=unit) | StopUnit(unit=unit):
            return _undo_of_unit_step(step, is_active=_is_active(unit, machine))
        case RecordInstalled():
            return RecordInstalled(machine.files.installed())
        case PlaceWeights() | AwaitReady() | RemoveWeights():
            return None
        case _ as never:
            assert_never(never)


def _undo_of_unit_step(step: StartUnit | RestartUnit | StopUnit, *, is_active: bool) -> Step | None:
    if isinstance(step, StopUnit):
        return StartUnit(step.unit) if is_active else None
    if not is_active:
        return StopUnit(step.unit)
    # Starting what runs does nothing; restarting it does.
    return RestartUnit(step.unit) if isinstance(step, RestartUnit) else None


def _is_active(unit: str, machine: Machine) -> bool:
    state = machine.manager.states((unit,)).get(unit)
    return state is not None and state.is_active


def undo_order(undos: tuple[Step, ...]) -> tuple[Step, ...]:
    """Order undoing steps, given in the order in which their steps were performed.

    Latest first, with one exception: a unit can run by its old definition again only when the old files are back
    and the manager has read them, so restarts and starts follow the files and one reload.
    """
    latest_first = tuple(reversed(undos))
    stops = (step for step in latest_first if isinstance(step, StopUnit))
    files = (step for step in latest_first if isinstance(step, WriteArtifact | RemoveArtifact))
    reload = (ReloadManager(),) if any(isinstance(step, ReloadManager) for step in undos) else ()
    starts = (step for step in latest_first if isinstance(step, StartUnit | RestartUnit))
    records = (step for step in latest_first if isinstance(step, RecordInstalled))
    return (*stops, *files, *reload, *starts, *records)
