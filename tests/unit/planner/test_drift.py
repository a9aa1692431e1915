"""What is different on the machine and stays so; what whole plans say of it is in tests/cases/plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.artifact import Link
from kloros_infra.ir.drift import Drift
from kloros_infra.ir.names import ROUTER_UNIT
from kloros_infra.ir.observed import ActiveState, Observed, UnitState
from kloros_infra.ir.running import RunningProcess
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from tests.sites import LAYOUT, Site, converged

UNIT, ADDRESS = "llama@code-max.service", "instance.code-max"
OVERRIDE = "/etc/systemd/system/llama@code-max.service.d/override.conf"


def drift_of(state: UnitState, desired: Desired | None = None, **observed: object) -> tuple[Drift, ...]:
    desired = desired or Site().desired()
    machine = converged(Site().desired())
    found: Observed = replace(machine, units={**machine.units, UNIT: state}, **observed)  # type: ignore[arg-type]
    return plan(desired, found)[0].drift


def active(**fields: object) -> UnitState:
    return replace(UnitState(UNIT, ActiveState.ACTIVE, main_pid=5), **fields)  # type: ignore[arg-type]


def test_a_machine_as_it_shall_be_has_none() -> None:
    assert drift_of(active()) == ()


def test_a_mask_matters_where_the_unit_shall_run() -> None:
    (found,) = drift_of(active(is_masked=True))
    assert (found.address, found.matters) == (ADDRESS, True)
    (found,) = drift_of(active(is_masked=True), Site(profile="mid").desired())
    assert not found.matters


BY_HAND = UnitState(UNIT, ActiveState.INACTIVE, is_stopped_by_hand=True)


def stops(*states: UnitState) -> tuple[Drift, ...]:
    desired = Site().desired()
    machine = converged(desired)
    found = replace(machine, units={**machine.units, **{state.unit: state for state in states}})
    return plan(desired, found)[0].drift


def test_a_stop_by_hand_is_told() -> None:
    (found,) = drift_of(BY_HAND, has_router_said=True)
    assert (found.what, found.matters) == ("was stopped by hand; a request starts it", True)
    (found,) = stops(UnitState(ROUTER_UNIT, ActiveState.INACTIVE, is_stopped_by_hand=True))
    assert (found.what, found.matters) == ("was stopped by hand and stays so", True)


def test_where_the_router_has_not_said_who_stopped_an_instance_nobody_is_accused() -> None:
    (found,) = drift_of(BY_HAND)
    assert (found.what, found.matters) == ("is stopped; a request starts it", True)
    (found,) = stops(BY_HAND, UnitState(ROUTER_UNIT, ActiveState.INACTIVE))
    assert found.what == "is stopped; a request starts it", "the router is about to be started"


def test_without_a_router_nothing_starts_it() -> None:
    found = stops(BY_HAND, UnitState(ROUTER_UNIT, ActiveState.INACTIVE, is_masked=True))
    assert "is stopped and stays so" in [one.what for one in found]
    desired = Site().desired()
    unwanted = replace(desired, units=tuple(unit for unit in desired.units if unit.unit != ROUTER_UNIT))
    assert "is stopped and stays so" in [one.what for one in drift_of(BY_HAND, unwanted)]
    machine = converged(desired)
    unasked = {name: state for name, state in machine.units.items() if name != ROUTER_UNIT} | {UNIT: BY_HAND}
    (one,) = plan(desired, replace(machine, units=unasked))[0].drift
    assert one.what == "is stopped and stays so"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (StopCause.ROOM, "is stopped by the router, as others need its memory; a request starts it"),
        (StopCause.ASKED, "is stopped by the router, as an operator wanted; a request starts it"),
        (StopCause.CRASH, "has ended by itself; the router starts it again"),
        (
            StopCause.CARD,
            "is stopped by the router, as a card that it needs is not to be used; it starts again with it",
        ),
    ],
)
def test_what_the_router_has_stopped_is_told_and_does_not_matter(cause: StopCause, words: str) -> None:
    (found,) = drift_of(UnitState(UNIT, ActiveState.INACTIVE, stopped_for=cause))
    assert (found.address, found.what, found.matters) == (ADDRESS, words, False)


@pytest.mark.parametrize("cause", [StopCause.IDLE, StopCause.FAILED])
def test_what_is_idle_is_as_it_shall_be_and_what_did_not_load_is_started(cause: StopCause) -> None:
    assert drift_of(UnitState(UNIT, ActiveState.INACTIVE, stopped_for=cause)) == ()


@pytest.mark.parametrize("cause", [StopCause.ROOM, StopCause.CARD])
def test_what_shall_not_run_under_this_profile_is_stopped_rightly(cause: StopCause) -> None:
    desired = Site(profile="mid").desired()
    assert drift_of(UnitState(UNIT, ActiveState.INACTIVE, stopped_for=cause), desired) == ()


def test_what_the_router_stops_while_nobody_uses_it_is_as_it_shall_be() -> None:
    desired = Site().desired()
    units = tuple(replace(unit, is_stopped_idle=unit.unit == UNIT) for unit in desired.units)
    assert drift_of(UnitState(UNIT, ActiveState.INACTIVE, is_stopped_by_hand=True), replace(desired, units=units)) == ()


def test_a_drop_in_of_ours_is_none() -> None:
    own = f"{LAYOUT.units}/{UNIT}.d/50-ours.conf"
    site = Site(extra={own: "[Service]\n"})
    assert drift_of(active(drop_ins=(f"/{own}",)), site.desired()) == ()
    (found,) = drift_of(active(drop_ins=(OVERRIDE,)))
    assert OVERRIDE in found.what
    assert found.matters, "it is in effect"
    (found,) = drift_of(UnitState(UNIT, ActiveState.INACTIVE, drop_ins=(OVERRIDE,)), Site(profile="mid").desired())
    assert not found.matters, "nothing runs by it"


def test_files_that_were_not_read_are_harmless() -> None:
    (found,) = drift_of(active(needs_reload=True))
    assert not found.matters


def test_a_process_is_compared_with_the_files_on_the_machine() -> None:
    process = RunningProcess(5, ("/x/llama-server", "--alias", "other"), {}, 1.0, "/")
    found = drift_of(active(), running={UNIT: process})
    assert any("'--alias other'" in one.what for one in found)
    assert any("LLAMA_ARG_PORT = nothing" in one.what for one in found)
    machine = converged(Site().desired())
    linked = {**machine.files, LAYOUT.unit_path(UNIT): Link("x")}
    assert drift_of(active(), running={UNIT: process}, files=linked) == ()
