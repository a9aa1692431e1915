"""Ask the service manager, the servers and the cards what the units of an installation are doing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kloros_infra.adapters.apply_lock import is_locked
from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.adapters.health import ServerHealth
from kloros_infra.adapters.nvml_processes import NvmlCardMemory
from kloros_infra.adapters.server_metrics import requests_in_flight
from kloros_infra.cli.gpu_site import read_report
from kloros_infra.cli.history import desired_at
from kloros_infra.cli.runtimes import runtimes_by_unit, until_text
from kloros_infra.cli.wiring import Target, generations_of, journal_of, observe_target, observing_manager
from kloros_infra.ir.control import FAILED, LEAVING, RUNNING, STOPPED, Runtime
from kloros_infra.ir.gate import InstanceGate
from kloros_infra.ir.generation import DesiredUnit, Interrupted, Run
from kloros_infra.ir.names import AGENT_UNIT, FOLLOWERS, instance_of, is_instance
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.placement import DeviceLoad
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.ir.unit_status import CardUse, Remedy, Status, Unconfirmed, UnitStatus
from kloros_infra.planner.redaction import redacted_lines

ANSWER_TIMEOUT_S = 1.0
LOG_LINES = 20
CODE = re.compile(r"\bKI\d{3}\b")
BY_HAND = "stopped by hand"
UNTIL = {Run.ALWAYS: "always", Run.ON_DEMAND: "on demand"}


def read_status(where: Target) -> Status:
    """Look at what the current generation has run, whatever models.yaml says by now."""
    # In this order: what an apply or an undoing that ends meanwhile has done is then in the history.
    is_at_work, unfinished = is_locked(where.root), journal_of(where).unfinished()
    waiting = Confirmation(where.root).read()
    history = generations_of(where).history()
    status = Status(history.current, history.last_good, "")
    if waiting is not None and not (is_at_work and waiting.left_s is None):
        status = replace(status, unconfirmed=Unconfirmed(waiting.previous, waiting.left_s))
    if unfinished is not None:
        status = _with_unfinished(status, unfinished, is_at_work=is_at_work)
    if history.current is None:
        return status
    desired = desired_at(where, history.current)
    observed = observe_target(desired, where)
    states = observed.units
    units = tuple(unit for unit in desired.units if _is_told(unit, states.get(unit.unit)))
    requests = _requests(units, states)
    found = tuple(_unit_status(unit, states.get(unit.unit), requests.get(unit.unit), where) for unit in units)
    runtimes = runtimes_by_unit(where)
    found = tuple(_with_router(unit, runtimes.get(unit.unit)) for unit in found)
    if not observed.has_router_said:
        found = tuple(map(_without_router, found))
    return replace(status, profile=desired.profile, units=found, cards=read_report(where))


def _is_told(unit: DesiredUnit, state: UnitState | None) -> bool:
    """Tell of what answers, and of the agent; of what only waits for events, where it does not."""
    if unit.ready_url is not None or unit.unit == AGENT_UNIT:
        return unit.run is not Run.NEVER
    return unit.unit in FOLLOWERS and state is not None and not state.is_active


def _without_router(status: UnitStatus) -> UnitStatus:
    """Say only that an instance is stopped where the router, which stops instances too, has not said who did it."""
    is_guessed = status.state == BY_HAND and is_instance(status.unit)
    return replace(status, state=STOPPED) if is_guessed else status


def _with_router(status: UnitStatus, runtime: Runtime | None) -> UnitStatus:
    """Say what the router knows better: until when an instance runs, and why it does not."""
    if runtime is None:
        return status
    is_up = runtime.status == RUNNING or runtime.status in LEAVING
    last_error = status.last_error or (runtime.reason if runtime.status == FAILED else "")
    is_unending = runtime.status == RUNNING and runtime.stops_in_seconds is None
    is_stopped = runtime.stopped_for not in (None, StopCause.FAILED)
    down_until = UNTIL[Run.ON_DEMAND] if is_stopped else status.until
    until = UNTIL[Run.ALWAYS] if is_unending else until_text(runtime) if is_up else down_until
    return replace(status, until=until, last_error=last_error, stopped_for=runtime.stopped_for)


def _with_unfinished(status: Status, unfinished: Interrupted, *, is_at_work: bool) -> Status:
    """Say that an apply is at work, or was killed and how that is mended."""
    if is_at_work:
        return replace(status, apply_in_work=unfinished.step)
    remedy = Remedy.COMPLETE if status.generation == unfinished.goal else Remedy.UNDO
    return replace(status, interrupted=unfinished, remedy=remedy)


def _requests(units: tuple[DesiredUnit, ...], states: Mapping[str, UnitState]) -> Mapping[str, int]:
    urls = {
        unit.unit: f"{unit.gate.base_url}/metrics"
        for unit in units
        if unit.gate is not None and unit.unit in states and states[unit.unit].is_active
    }
    return requests_in_flight(urls)


def _unit_status(unit: DesiredUnit, state: UnitState | None, requests: int | None, where: Target) -> UnitStatus:
    status = UnitStatus(
        unit=unit.unit,
        name=_name(unit),
        profile=", ".join(unit.profiles),
        state=_state(unit, state),
        main_pid=0 if state is None else state.main_pid,
        until=UNTIL[Run.ON_DEMAND if unit.is_stopped_idle else unit.run],
        last_error="" if state is None else _last_error(state, where),
    )
    if unit.gate is None:
        return status
    placement = unit.gate.placement
    return replace(
        status,
        cards=_cards(unit.gate, status.main_pid) if state is not None and state.is_active else (),
        is_on_cpu=placement.is_cpu_only,
        context_tokens=placement.context_tokens,
        slots=placement.parallel,
        requests=requests,
    )


def _name(unit: DesiredUnit) -> str:
    name = instance_of(unit.unit)
    return name.removesuffix(f"-{unit.profile}") if unit.profile else name.removeprefix("kloros-")


def _state(unit: DesiredUnit, state: UnitState | None) -> str:
    if state is None:
        return "unknown"
    if state.is_active:
        is_ready = unit.ready_url is None or ServerHealth().is_ready(unit.ready_url, ANSWER_TIMEOUT_S)
        return "ready" if is_ready else "not ready"
    if state.is_masked:
        return "masked"
    if state.is_stopped_by_hand and not unit.is_stopped_idle:
        return BY_HAND
    if state.sub == "auto-restart":
        return "restarting"
    return STOPPED if state.active is ActiveState.INACTIVE else state.active.value


def _last_error(state: UnitState, where: Target) -> str:
    manager = observing_manager(where)
    if state.result == "success" or manager is None:
        return ""
    lines = [line.strip() for line in redacted_lines(manager.log_tail(state.unit, LOG_LINES))]
    return ": ".join((f"{state.result} {state.exit_status}", *filter(None, (telling_line(lines),))))


def telling_line(lines: Sequence[str]) -> str:
    """Give the last line that names a problem of ours, else the last: a summary of what was said above says nothing."""
    return next((line for line in reversed(lines) if CODE.search(line)), lines[-1] if lines else "")


def _cards(gate: InstanceGate, main_pid: int) -> tuple[CardUse, ...]:
    """Say what a process holds, by NVML where that knows it and the cards are known by their UUIDs."""
    uuids = dict(gate.card_uuids)
    held = (NvmlCardMemory().used_bytes(main_pid) if uuids else None) or {}
    return tuple(_card_use(load, held.get(uuids.get(load.device, ""))) for load in gate.placement.loads if load.card)


def _card_use(load: DeviceLoad, held_bytes: int | None) -> CardUse:
    is_measured = held_bytes is not None
    return CardUse(load.card or load.device, load.total_bytes if held_bytes is None else held_bytes, is_measured)
