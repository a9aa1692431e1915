"""What is different on the machine and stays so; what whole plans say of it is in tests/cases/plan."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.ir.artifact import Link
from kloros_infra.ir.drift import Drift
from kloros_infra.ir.observed import ActiveState, Observed, UnitState
from kloros_infra.ir.running import RunningProcess
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


def test_a_stop_by_hand_is_told() -> None:
    found = drift_of(UnitState(UNIT, ActiveState.INACTIVE, is_stopped_by_hand=True))
    assert any("stopped by hand" in one.what and one.matters for one in found)


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
