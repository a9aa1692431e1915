"""Units that an administrator keeps from running: told from those that an apply ended, and left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Severity
from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.generation import DesiredUnit, Manifest, Provenance, Run
from kloros_infra.ir.names import AGENT_UNIT, DIRTY_UNIT, LLM_TARGET, NODES_UNIT
from kloros_infra.ir.observed import ActiveState, Installed, Observed, UnitState
from kloros_infra.ir.plan import RestartUnit, StartUnit
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.file_changes import foreign_paths
from kloros_infra.planner.held import stopped_by_hand
from tests.sites import LAYOUT, Site, converged, fresh, untouched

UNIT, TARGET = "llama@code-max.service", "kloros-profile-max.target"
ROUTER = "kloros-router.service"


def manifest(*units: DesiredUnit) -> Manifest:
    return Manifest(1, Provenance(), "max", files={}, fixed={}, units=units)


RUNS = manifest(
    DesiredUnit(UNIT, Run.ALWAYS, profile="max"),
    DesiredUnit(ROUTER, Run.ALWAYS),
    DesiredUnit(TARGET, Run.ALWAYS, profile="max"),
)


def states(*, ended: frozenset[str] = frozenset({UNIT}), down: str = "") -> dict[str, UnitState]:
    names = (UNIT, ROUTER, TARGET, "kloros-llm.target")
    return {
        name: UnitState(name, ActiveState.INACTIVE, has_ended=name in ended)
        if name in ended or name == down
        else UnitState(name, ActiveState.ACTIVE)
        for name in names
    }


def test_what_ended_while_its_target_goes_on_was_stopped_by_hand() -> None:
    assert stopped_by_hand(states(), Installed(), RUNS) == {UNIT}
    assert stopped_by_hand(states(ended=frozenset({ROUTER})), Installed(), RUNS) == {ROUTER}


@pytest.mark.parametrize(
    ("states", "installed", "manifest"),
    [
        pytest.param(states(ended=frozenset()), Installed(), RUNS, id="nothing ended"),
        pytest.param(states(ended=frozenset(), down=UNIT), Installed(), RUNS, id="it has not run since the boot"),
        pytest.param(states(), Installed(), None, id="nobody knows what should run"),
        pytest.param(states(), Installed(is_unfinished=True), RUNS, id="an apply was killed and may have stopped it"),
        pytest.param(states(down=TARGET), Installed(), RUNS, id="its target was stopped, and it with it"),
        pytest.param(states(ended=frozenset({TARGET})), Installed(), RUNS, id="a target has no process"),
        pytest.param({}, Installed(), RUNS, id="nobody was asked"),
        pytest.param(
            states(), Installed(), manifest(DesiredUnit(UNIT, Run.NEVER, profile="max")), id="an apply stopped it"
        ),
    ],
)
def test_what_may_have_ended_otherwise_was_not(
    states: dict[str, UnitState], installed: Installed, manifest: Manifest | None
) -> None:
    assert stopped_by_hand(states, installed, manifest) == frozenset()


def holding(observed: Observed, **how: bool) -> Observed:
    """Take one unit down, held in some way."""
    held = UnitState(UNIT, ActiveState.INACTIVE, is_masked=how.get("is_masked", False), has_ended=True)
    held = replace(held, is_stopped_by_hand=how.get("is_stopped_by_hand", False))
    return replace(observed, units={**observed.units, UNIT: held})


def touched(desired: Desired, observed: Observed) -> set[str]:
    steps = plan(desired, observed)[0].steps
    return {step.unit for step in steps if isinstance(step, StartUnit | RestartUnit)}


def test_a_masked_unit_is_not_started_whatever_is_asked() -> None:
    desired = Site().desired()
    observed = holding(converged(desired), is_masked=True)
    assert touched(desired, observed) == set()
    assert touched(replace(desired, resets_pins=True), observed) == set()


def test_a_unit_that_was_stopped_by_hand_stays_so_until_that_is_reset() -> None:
    desired = Site().desired()
    observed = holding(converged(desired), is_stopped_by_hand=True)
    assert touched(desired, observed) == set()
    assert touched(replace(desired, resets_pins=True), observed) == {UNIT}


@pytest.mark.parametrize("cause", [cause for cause in StopCause if cause is not StopCause.FAILED])
def test_what_the_router_has_stopped_is_left_to_it(cause: StopCause) -> None:
    desired = Site().desired()
    observed = converged(desired)
    stopped = UnitState(UNIT, ActiveState.INACTIVE, has_ended=True, stopped_for=cause)
    observed = replace(observed, units={**observed.units, UNIT: stopped})
    assert touched(desired, observed) == touched(replace(desired, resets_pins=True), observed) == set()


def test_what_did_not_load_for_the_router_is_started_again() -> None:
    desired = Site().desired()
    observed = converged(desired)
    failed = UnitState(UNIT, ActiveState.INACTIVE, has_ended=True, stopped_for=StopCause.FAILED)
    assert touched(desired, replace(observed, units={**observed.units, UNIT: failed})) == {UNIT}


def test_a_masked_unit_that_runs_goes_on_with_its_old_definition() -> None:
    desired = replace(Site().desired(), replaced=frozenset({ROUTER}))
    observed = converged(desired)
    assert touched(desired, observed) == {ROUTER}
    masked = replace(observed.units[ROUTER], is_masked=True)
    assert touched(desired, replace(observed, units={**observed.units, ROUTER: masked})) == set()


def test_a_target_is_not_started_again_over_a_member_that_is_held() -> None:
    before, after, bus = Site(with_bus=False).desired(), Site().desired(), "kloros-bus.service"
    observed = converged(before)
    observed = replace(observed, units={**observed.units, bus: UnitState(bus, ActiveState.INACTIVE)})
    assert touched(after, observed) == {bus, LLM_TARGET}
    router = replace(observed.units[ROUTER], is_masked=True)
    assert touched(after, replace(observed, units={**observed.units, ROUTER: router})) == {bus}


def test_what_is_over_in_a_moment_is_not_restarted() -> None:
    def with_units(text: str) -> Site:
        return Site(
            extra={
                LAYOUT.unit_path(unit): f"[Service]\nExecStart={text}\n"
                for unit in (DIRTY_UNIT, NODES_UNIT, AGENT_UNIT)
            }
        )

    observed = converged(with_units("touch /run/kloros/dirty").desired())
    running = {unit: UnitState(unit, ActiveState.ACTIVE) for unit in (DIRTY_UNIT, NODES_UNIT, AGENT_UNIT)}
    observed = replace(observed, units={**observed.units, **running})

    assert touched(with_units("touch /run/other").desired(), observed) == {AGENT_UNIT}


def test_a_mask_is_not_a_foreign_file() -> None:
    desired = Site().desired()
    path = LAYOUT.override_path(UNIT)
    masked = replace(fresh(desired), files={path: Link("/dev/null")})
    assert foreign_paths(desired, masked) == ()
    hidden = replace(fresh(desired), files={path: TextFile("[Service]\n")})
    assert foreign_paths(desired, hidden) == (path,)


def test_without_a_service_manager_plan_warns_and_apply_refuses() -> None:
    desired = Site().desired()
    made, problems = plan(desired, replace(untouched(), has_manager=False))
    assert [(one.code, one.severity) for one in problems] == [("KI599", Severity.WARNING)]
    assert [(one.code, one.severity) for one in made.refusals] == [("KI599", Severity.ERROR)]
