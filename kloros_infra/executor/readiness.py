"""Wait for a started unit: until it answers, ends, or its time is up, whichever comes first."""

from __future__ import annotations

import signal

from kloros_infra.diagnostics import Diagnostic, quoted_log
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.machine import Machine
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.plan import AwaitReady

POLL_S = 0.025
ONE_ANSWER_S = 2.0
LOG_LINES = 15
# Result= of a service whose process was killed: systemd.exec(5), "$SERVICE_RESULT".
SIGNAL_RESULTS = ("signal", "core-dump")
LAST_LINES = "Its last lines say why: most often a missing file, a port in use or too little memory."
OTHER_PROCESSOR = "It was compiled for another processor: use a llama-server built for this one, or a portable build."


def await_ready(step: AwaitReady, machine: Machine) -> float:
    """Return how long it took; raise StepFailedError with the unit's last log lines when it will not."""
    clock = machine.clock
    began = clock.now()
    first = _state(step, machine)
    state = first
    while not _has_ended(state, first):
        left = began + step.timeout_s - clock.now()
        if left <= 0:
            raise StepFailedError((_too_late(step, machine),))
        if machine.health.is_ready(step.url, min(left, ONE_ANSWER_S)):
            return clock.now() - began
        machine.display.waiting(step.unit, clock.now() - began)
        clock.pause(POLL_S)
        state = _state(step, machine)
    raise StepFailedError((_ended(step, state, clock.now() - began, machine),))


def _state(step: AwaitReady, machine: Machine) -> UnitState:
    states = machine.manager.states((step.unit,))
    return states.get(step.unit, UnitState(step.unit, ActiveState.INACTIVE))


def _has_ended(state: UnitState, first: UnitState) -> bool:
    """Say whether the started process is gone, even where another has taken its place."""
    is_down = state.active in (ActiveState.FAILED, ActiveState.INACTIVE, ActiveState.DEACTIVATING)
    is_replaced = first.main_pid not in (0, state.main_pid)
    return is_down or is_replaced or state.sub == "auto-restart"


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


def _too_late(step: AwaitReady, machine: Machine) -> Diagnostic:
    return Diagnostic(
        code="KI508",
        summary="A unit did not become ready",
        detail=f"{step.unit} runs, but {step.url} did not answer as ready within {step.timeout_s:.0f} s."
        + quoted_log(machine.manager.log_tail(step.unit, LOG_LINES)),
        hint="Its last lines say what it is doing; a slow disk needs smaller weights or a faster disk.",
        address=step.unit,
    )
