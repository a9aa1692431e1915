"""What can be known to fail before the first step: asked all at once, so that all of it is reported at once."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.executor.machine import Machine
from kloros_infra.ir.observed import Listener
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import Plan, RestartUnit, StageGeneration, StartUnit, StopUnit


def obstacles(plan: Plan, machine: Machine) -> Problems:
    """List everything that would make the plan fail on this machine as it is now."""
    weights = tuple(step for step in plan.steps if isinstance(step, PlaceWeights))
    return (
        *plan.refusals,
        *(unreachable(step) for step in weights if not machine.weights.is_reachable(step)),
        *_taken_numbers(plan, machine),
        *_full_disk(weights, machine),
        *_busy_ports(plan, machine),
    )


def unreachable(step: PlaceWeights) -> Diagnostic:
    """Report weights whose source is not there."""
    return Diagnostic(
        code="KI505",
        summary="Weights cannot be reached",
        detail=f"{step.key} comes from {', '.join(step.sources)}, which is missing or does not answer.",
        hint="Install the package, restore the file or mend the network, then apply again.",
        address=f"weights.{step.key}",
    )


def _taken_numbers(plan: Plan, machine: Machine) -> Iterator[Diagnostic]:
    """Only what an interrupted apply staged, and nobody went to, gives way to a new generation."""
    history, staged = machine.generations.history(), machine.files.installed().staged
    for step in plan.steps:
        if isinstance(step, StageGeneration) and step.number in {*history.numbers, *history.marked} - {staged}:
            yield Diagnostic(
                code="KI558",
                summary="Generation is there already",
                detail=f"The plan makes generation {step.number}, and this machine keeps one of that number.",
                hint="Somebody applied in the meantime: plan again, and apply that.",
            )


def _full_disk(weights: tuple[PlaceWeights, ...], machine: Machine) -> Iterator[Diagnostic]:
    if not weights:
        return
    needed = sum(step.size_bytes for step in weights)
    free = machine.files.free_bytes(weights[0].destination)
    if free < needed:
        yield Diagnostic(
            code="KI506",
            summary="Not enough disk space",
            detail=f"The weights to place need {needed} bytes, and {free} bytes are free.",
            hint="Make room, or keep fewer versions.",
            address=f"weights.{weights[0].key}",
        )


def _busy_ports(plan: Plan, machine: Machine) -> Iterator[Diagnostic]:
    """A port is free for a unit if nobody holds it, or a unit that this plan stops or restarts."""
    if not plan.ports:
        return
    units = {step.unit for step in plan.steps if isinstance(step, StartUnit | RestartUnit | StopUnit)}
    states = machine.manager.states(sorted(units))
    main_pids = frozenset(state.main_pid for state in states.values() if state.main_pid)
    for port, unit in plan.ports:
        for listener in machine.ports.listeners(port):
            if not _yields(listener, main_pids):
                yield _busy_port(port, unit, listener)


def _yields(listener: Listener, main_pids: frozenset[int]) -> bool:
    return any(listener.belongs_to(pid) for pid in main_pids)


def _busy_port(port: int, unit: str, listener: Listener) -> Diagnostic:
    who = f"{listener.name} (pid {listener.pid})" if listener.pid else "a process of another user"
    return Diagnostic(
        code="KI504",
        summary="Port in use",
        detail=f"{unit} needs port {port}, which {who} listens on.",
        hint="Stop that process, or give the unit another port in models.yaml.",
        address=unit,
    )
