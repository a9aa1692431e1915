"""Wait for a started unit: until it answers, ends, or its time is up; and see in the end that it still runs."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from urllib.parse import urlsplit

from kloros_infra.diagnostics import Diagnostic, quoted_log
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.machine import Machine
from kloros_infra.ir.observed import ActiveState, Listener, UnitState
from kloros_infra.ir.plan import AwaitReady, CheckRunning

POLL_S = 0.025
ONE_ANSWER_S = 2.0
LOG_LINES = 15
AUTO_RESTART = "auto-restart"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Whose listeners can be told; another address may have a process of its own on the same port."""
# Result= of a service whose process was killed: systemd.exec(5), "$SERVICE_RESULT".
SIGNAL_RESULTS = ("signal", "core-dump")
LAST_LINES = "Its last lines say why: most often a missing file, a port in use or too little memory."
OTHER_PROCESSOR = "It was compiled for another processor: use a llama-server built for this one, or a portable build."


def await_ready(step: AwaitReady, machine: Machine) -> UnitState:
    """Return the unit's state once it is ready; raise StepFailedError with its last log lines when it will not be.

    An answer counts only if it is the unit's: its process is still the one that was started, and holds the port.
    """
    clock = machine.clock
    began = clock.now()
    first = state = state_of(step.unit, machine)
    others: tuple[Listener, ...] = ()
    while not _has_ended(state, first):
        left = began + step.timeout_s - clock.now()
        if left <= 0:
            raise StepFailedError((_too_late(step, others, machine),))
        if machine.health.is_ready(step.url, min(left, ONE_ANSWER_S)):
            state = state_of(step.unit, machine)
            others = _others(step, state, machine)
            if not others and not _has_ended(state, first):
                return state
        machine.display.waiting(step.unit, clock.now() - began)
        clock.pause(POLL_S)
        state = state_of(step.unit, machine)
    raise StepFailedError((_ended(step, state, clock.now() - began, machine),))


def check_running(step: CheckRunning, machine: Machine, pids: Mapping[str, int]) -> None:
    """Raise StepFailedError unless every unit is up as the process that is noted in `pids`."""
    found = machine.manager.states(step.units)
    states = (found.get(unit, UnitState(unit, ActiveState.INACTIVE)) for unit in step.units)
    gone = [state for state in states if not _still_runs(state, pids.get(state.unit, 0))]
    if gone:
        raise StepFailedError(_did_not_stay(state, machine) for state in gone)


def state_of(unit: str, machine: Machine) -> UnitState:
    """Ask for the state of a unit; one that the manager does not know is down."""
    return machine.manager.states((unit,)).get(unit, UnitState(unit, ActiveState.INACTIVE))


def _still_runs(state: UnitState, main_pid: int) -> bool:
    return state.is_up and state.sub != AUTO_RESTART and main_pid in (0, state.main_pid)


def _others(step: AwaitReady, state: UnitState, machine: Machine) -> tuple[Listener, ...]:
    """Give who listens on the unit's port in its place; nobody where that cannot be told."""
    url = urlsplit(step.url)
    if url.hostname not in LOOPBACK or url.port is None or not state.main_pid:
        return ()
    listeners = machine.ports.listeners(url.port)
    return () if any(listener.belongs_to(state.main_pid) for listener in listeners) else listeners


def _has_ended(state: UnitState, first: UnitState) -> bool:
    """Say whether the started process is gone, even where another has taken its place."""
    is_replaced = first.main_pid not in (0, state.main_pid)
    return not state.is_up or is_replaced or state.sub == AUTO_RESTART


def _ended(step: AwaitReady, state: UnitState, ran_s: float, machine: Machine) -> Diagnostic:
    return Diagnostic(
        code="KI507",
        summary="A unit ended while it started",
        detail=f"{step.unit} ended after {ran_s:.1f} s, {_how(state)}."
        + quoted_log(machine.manager.log_tail(step.unit, LOG_LINES)),
        hint=OTHER_PROCESSOR if _is_illegal_instruction(state) else LAST_LINES,
        address=step.unit,
    )


def _how(state: UnitState) -> str:
    """Say how a process ended; a signal goes by its name (systemd gives its number as the exit status)."""
    if state.result in SIGNAL_RESULTS and state.exit_status in signal.valid_signals():
        return f"killed by {signal.Signals(state.exit_status).name}"
    return f"with exit status {state.exit_status} ({state.result})"


def _is_illegal_instruction(state: UnitState) -> bool:
    return state.result in SIGNAL_RESULTS and state.exit_status == signal.SIGILL


def _did_not_stay(state: UnitState, machine: Machine) -> Diagnostic:
    how = "runs as another process" if state.main_pid else f"ended, {_how(state)}"
    return Diagnostic(
        code="KI597",
        summary="A unit did not stay up",
        detail=f"{state.unit} was started and ready, and before the apply was over it {how}."
        + quoted_log(machine.manager.log_tail(state.unit, LOG_LINES)),
        hint=OTHER_PROCESSOR if _is_illegal_instruction(state) else LAST_LINES,
        address=state.unit,
    )


def _too_late(step: AwaitReady, others: tuple[Listener, ...], machine: Machine) -> Diagnostic:
    reason = f"{step.url} did not answer as ready within {step.timeout_s:.0f} s."
    if others:
        names = ", ".join(f"{one.name} (pid {one.pid})" if one.pid else "a process of another user" for one in others)
        reason = f"{step.url} is answered by {names}, which is no process of the unit."
    return Diagnostic(
        code="KI508",
        summary="A unit did not become ready",
        detail=f"{step.unit} runs, but {reason}" + quoted_log(machine.manager.log_tail(step.unit, LOG_LINES)),
        hint="Its last lines say what it is doing; a slow disk needs smaller weights or a faster disk.",
        address=step.unit,
    )
