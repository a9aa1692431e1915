"""Differences on the machine that a plan does not mend, and which of them matter.

Files that were changed are put back, so they are changes. What is left is what an administrator did on purpose, or
what a process was started with: it is told, and never undone behind anybody's back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.ir.drift import Drift
from kloros_infra.ir.generation import DesiredUnit, Run
from kloros_infra.ir.names import ROUTER_UNIT, is_instance
from kloros_infra.ir.observed import UnitState
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.planner.address import unit_address
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.keeping import UNKNOWN, remembered, running_definition
from kloros_infra.planner.running_drift import intended_process, running_drift
from kloros_infra.planner.unit_changes import UnitChange, is_held

ROUTERS_WORDS: Mapping[StopCause | None, str] = {
    StopCause.ROOM: "is stopped by the router, as others need its memory; a request starts it",
    StopCause.ASKED: "is stopped by the router, as an operator wanted; a request starts it",
    StopCause.CRASH: "has ended by itself; the router starts it again",
    StopCause.CARD: "is stopped by the router, as a card that it needs is not to be used; it starts again with it",
}
"""What is idle is as it shall be, and what did not load is started."""


def drift(both: Comparison, changes: Mapping[str, UnitChange]) -> tuple[Drift, ...]:
    """List what differs without being mended, in the order of the units."""
    return tuple(
        found
        for unit in both.desired.units
        if (state := both.observed.units.get(unit.unit)) is not None
        for found in _unit_drift(unit, state, changes.get(unit.unit), both)
    )


def _unit_drift(unit: DesiredUnit, state: UnitState, change: UnitChange | None, both: Comparison) -> Iterator[Drift]:
    address, begins = unit_address(unit.unit), change is not None and change.verb.is_start
    if state.is_masked:
        yield Drift(address, "is masked: it cannot be started until `systemctl unmask`", unit.run is Run.ALWAYS)
    if not unit.is_stopped_idle and unit.run is not Run.NEVER:
        yield from _stop_drift(unit, state, both)
    for path in state.drop_ins:
        if path.lstrip("/") not in both.desired.tree:
            yield Drift(address, f"is also configured by {path}, which is not ours", begins or state.is_up)
    if state.needs_reload and change is None and both.desired.layout.unit_path(unit.unit) not in both.files:
        yield Drift(address, "has files that the service manager has not read yet", matters=False)
    process = both.observed.running.get(unit.unit)
    if process is not None and not begins and not _is_unknown(unit.unit, both):
        started_by = running_definition(unit, both)
        for key in running_drift(intended_process(started_by.unit, started_by.environment), process):
            what = f"runs with {key.key} = {_word(key.before)} where its files say {_word(key.after)}"
            yield Drift(address, f"{what}; `--replace` restarts it", matters=True)


def _stop_drift(unit: DesiredUnit, state: UnitState, both: Comparison) -> Iterator[Drift]:
    """Say who keeps a unit stopped, and for how long, as far as that is known."""
    address, shall_run = unit_address(unit.unit), unit.run is Run.ALWAYS
    if (why := ROUTERS_WORDS.get(state.stopped_for)) is not None:
        yield Drift(address, why, matters=False)
    elif state.is_stopped_by_hand and not is_instance(unit.unit):
        yield Drift(address, "was stopped by hand and stays so", shall_run)
    elif state.is_stopped_by_hand:
        has_router = _will_run(ROUTER_UNIT, both)
        # The router would have said if it was its doing; of one that is gone nobody knows.
        what = "was stopped by hand" if both.observed.has_router_said else "is stopped"
        yield Drift(address, f"{what}; a request starts it" if has_router else f"{what} and stays so", shall_run)


def _will_run(name: str, both: Comparison) -> bool:
    state = both.observed.units.get(name)
    is_let = state is not None and (state.is_up or not is_held(state, both.desired))
    return is_let and any(unit.unit == name and unit.run is Run.ALWAYS for unit in both.desired.units)


def _is_unknown(unit: str, both: Comparison) -> bool:
    known = remembered(unit, both)
    return known is not None and known.definition == UNKNOWN


def _word(value: str | None) -> str:
    return "nothing" if value is None else repr(value)
