"""What happens to each unit: start, restart, stop or nothing, and why.

A running unit is left alone as long as nothing it runs by differs. What it runs by is more than its file: its env
file, its program and its weights can be replaced under it, and an apply that was killed may owe it a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.ir.artifact import text_of
from kloros_infra.ir.generation import DesiredUnit, Run
from kloros_infra.ir.load_time import expected_load_s
from kloros_infra.ir.names import BUS_UNIT, PASSING, ROUTER_UNIT, is_instance
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.ir.unit_keys import unit_keys
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import Cause
from kloros_infra.planner.keeping import verdict
from kloros_infra.planner.text_keys import json_keys

WANTING_KEYS = ("Unit.Wants", "Unit.Requires")


class Verb(StrEnum):
    """What happens to a unit."""

    START = "start"
    RESTART = "restart"
    START_AGAIN = "start its new members"
    STOP = "stop"

    @property
    def is_start(self) -> bool:
        """Say whether the unit binds its ports and has to become ready."""
        return self in (Verb.START, Verb.RESTART)


@dataclass(frozen=True, slots=True)
class UnitChange:
    """One unit that is started, restarted or stopped."""

    unit: str
    verb: Verb
    reason: str
    seconds: float = 0.0


def unit_changes(both: Comparison) -> dict[str, UnitChange]:
    """Decide about every unit, in start order, then about those that are ours no longer."""
    changes: dict[str, UnitChange] = {}
    for unit in both.desired.units:
        state = both.observed.units.get(unit.unit)
        is_ours = both.foreign.isdisjoint(
            (both.desired.layout.unit_path(unit.unit), both.desired.layout.override_path(unit.unit))
        )
        is_asked = is_ours and both.desired.acts_on(unit.unit)
        change = _unit_change(unit, state, both) if state is not None and is_asked else None
        if change is not None:
            changes[unit.unit] = change
    for name in removed_units(both):
        state = both.observed.units.get(name)
        if state is not None and state.is_up and both.desired.acts_on(name):
            cause = Cause.DESTROYED if both.desired.is_destroyed else Cause.GONE
            changes[name] = UnitChange(name, Verb.STOP, cause)
    kept = _kept_by_router(changes, both)
    return {name: change for name, change in changes.items() if name not in kept}


def _kept_by_router(changes: Mapping[str, UnitChange], both: Comparison) -> frozenset[str]:
    """Name the instances of other profiles that the router keeps loaded for a while after a switch, and stops itself.

    Only where nothing else happens to models: what an apply starts must find its cards free.
    """
    router, units = both.observed.units.get(ROUTER_UNIT), {unit.unit: unit for unit in both.desired.units}
    going = frozenset(name for name in changes if is_instance(name) and name in units and units[name].run is Run.NEVER)
    is_switched = both.desired.layout.profile_file not in both.files
    is_kept = (
        router is not None and router.is_active and is_switched and not any(map(is_instance, changes.keys() - going))
    )
    states = both.observed.units
    return frozenset(name for name in going if is_kept and not verdict(units[name], states[name], both).now)


def waiting_units(both: Comparison, changes: Mapping[str, UnitChange]) -> dict[str, tuple[str, ...]]:
    """Find the units that go on running although something differs that they would be restarted for, and what."""
    running = ((unit, verdict(unit, state, both)) for unit, state in _going_on(both, changes))
    return {unit.unit: found.later for unit, found in running if found.later}


def masked_units(both: Comparison, changes: Mapping[str, UnitChange]) -> frozenset[str]:
    """Find the units that would be restarted if they were not masked."""
    masked = ((unit, state) for unit, state in _going_on(both, changes) if state.is_masked)
    return frozenset(unit.unit for unit, state in masked if verdict(unit, state, both).now)


def _going_on(both: Comparison, changes: Mapping[str, UnitChange]) -> Iterator[tuple[DesiredUnit, UnitState]]:
    for unit in both.desired.units:
        state = both.observed.units.get(unit.unit)
        is_decided = unit.unit in changes or unit.run is Run.NEVER or not both.desired.acts_on(unit.unit)
        if state is not None and not is_decided and state.is_up and unit.unit.endswith(".service"):
            yield unit, state


def removed_units(both: Comparison) -> tuple[str, ...]:
    """List the units that we once installed and want no longer, last started first."""
    layout = both.desired.layout
    named = {layout.unit_at(path) for path in both.observed.installed.digests}
    units = (unit for unit in named if unit is not None and layout.unit_path(unit) not in both.desired.tree)
    return tuple(sorted(units, key=stop_rank))


def stop_rank(unit: str) -> tuple[int, str]:
    """Targets let go of what they hold, then who asks stops before who answers, and the bus carries both."""
    if unit.endswith(".target"):
        return (0, unit)
    return (3 if unit == BUS_UNIT else 2 if is_instance(unit) else 1, unit)


def _unit_change(unit: DesiredUnit, state: UnitState, both: Comparison) -> UnitChange | None:
    if unit.run is Run.NEVER:
        reason = f"profile {both.desired.profile} is active"
        return UnitChange(unit.unit, Verb.STOP, reason) if state.is_up else None
    if is_held(state, both.desired) or unit.unit in PASSING:
        return None
    if unit.unit.endswith(".target"):
        return _target_change(unit, state, both)
    # systemd applies a changed path, timer or slice with the reload; only processes keep what they started with.
    if state.is_up and unit.unit.endswith(".service"):
        moves_router = _moves_router(unit.unit, both)
        reasons = (*verdict(unit, state, both).now, *(("its addresses differ",) if moves_router else ()))
        if reasons:
            return UnitChange(unit.unit, Verb.RESTART, "; ".join(reasons), expected_load_s(unit.load_bytes))
    if unit.run is Run.ALWAYS and not state.is_active:
        return UnitChange(unit.unit, Verb.START, _why_down(state), expected_load_s(unit.load_bytes))
    return None


def _target_change(unit: DesiredUnit, state: UnitState, both: Comparison) -> UnitChange | None:
    """A new member of a running target starts only when the target is started again (systemd.target(5))."""
    if unit.run is not Run.ALWAYS:
        return None
    if not state.is_active:
        return UnitChange(unit.unit, Verb.START, _why_down(state))
    # Who starts a target starts all that it wants: apply starts the new ones itself.
    is_due = unit.unit in both.observed.installed.owed or _wants_differ(unit.unit, both)
    if is_due and not _holds_back(unit.unit, both):
        return UnitChange(unit.unit, Verb.START_AGAIN, "what it wants differs")
    return None


def is_held(state: UnitState, desired: Desired) -> bool:
    """Say whether a unit is left as it is: a mask holds in any case, a stop until it is reset.

    What the router has stopped it starts itself; what did not load is tried again, as it may load now.
    """
    if state.stopped_for not in (None, StopCause.FAILED):
        return True
    return state.is_masked or (state.is_stopped_by_hand and not desired.resets_pins)


def _holds_back(target: str, both: Comparison) -> bool:
    keys = unit_keys(text_of(both.desired.tree.get(both.desired.layout.unit_path(target))))
    wanted = (unit for key in WANTING_KEYS for unit in keys.get(key, "").split())
    states = (both.observed.units.get(unit) for unit in wanted)
    return any(state is not None and is_held(state, both.desired) for state in states)


def _wants_differ(target: str, both: Comparison) -> bool:
    path = both.desired.layout.unit_path(target)
    before, after = (unit_keys(text_of(files.get(path))) for files in (both.observed.files, both.desired.tree))
    return any(before.get(key) != after.get(key) for key in WANTING_KEYS)


def _why_down(state: UnitState) -> str:
    if state.active is ActiveState.FAILED:
        return f"failed: {state.result} {state.exit_status}"
    return "not running" if state.active is ActiveState.INACTIVE else f"not running ({state.active})"


def _moves_router(unit: str, both: Comparison) -> bool:
    """Say whether the router gets other addresses: it takes them up when it starts, the rest of its table at once."""
    change = both.files.get(both.desired.layout.routing)
    if unit != ROUTER_UNIT or change is None or change.before is None:
        return False
    before, after = (json_keys(text_of(side)) or {} for side in (change.before, change.after))
    keys = (key for key in before.keys() | after.keys() if key.startswith(("bus.", "bridge.host", "bridge.ports")))
    return any(before.get(key) != after.get(key) for key in keys)
