"""A plan in a file comes back as it was, and is refused when it is none or no longer holds."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.generation import History
from kloros_infra.ir.observed import ActiveState, Installed, Observed, UnitState
from kloros_infra.ir.on_change import Kept
from kloros_infra.ir.plan import Action, Change, KeyChange, Plan, WriteArtifact
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.fingerprint import MOVED, Fingerprint, fingerprint, moved
from kloros_infra.planner.keeping import UNKNOWN
from kloros_infra.planner.request import PlanRequest
from kloros_infra.planner.saved_plan import SavedPlan, load_plan, save_plan, staleness
from tests.sites import LAYOUT, Site, converged, fresh
from tests.unit.planner.test_plan_cases import CASES, found, narrow, wanted

REQUEST = PlanRequest(only=("code",), supposed=(("rtx3060", False),))


def saved(made: Plan, desired: Desired, observed: Observed) -> SavedPlan:
    return SavedPlan(made, fingerprint(desired, observed), REQUEST, "1.0")


def a_saved_plan() -> SavedPlan:
    desired = Site().desired()
    observed = fresh(desired)
    return saved(plan(desired, observed)[0], desired, observed)


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_plan_comes_back_as_it_was(folder: Path) -> None:
    case = yaml.safe_load((folder / "case.yaml").read_text())
    desired = wanted(case["after"])
    observed = found(case, desired)
    desired = narrow(case, desired, observed)
    one = saved(plan(desired, observed)[0], desired, observed)
    text = save_plan(one)
    assert load_plan(text) == (one, ())
    assert save_plan(one) == text
    assert staleness(one, fingerprint(desired, observed)) == ()


def alter(text: str, **values: Any) -> str:
    return json.dumps({**json.loads(text), **values})


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "JSON"),
        ("[1]", "--out"),
        ("{}", "--out"),
        (alter(save_plan(a_saved_plan()), version=2), "version 2"),
        (alter(save_plan(a_saved_plan()), plan=None), "cut off"),
        (alter(save_plan(a_saved_plan()), steps=[{"step": "Explode"}]), "cut off"),
        (alter(save_plan(a_saved_plan()), steps=[{}]), "cut off"),
        (alter(save_plan(a_saved_plan()), steps=7), "cut off"),
        (alter(save_plan(a_saved_plan()), steps=[{"step": "StartUnit"}]), "cut off"),
        (alter(save_plan(a_saved_plan()), steps=["StartUnit"]), "cut off"),
    ],
)
def test_what_is_no_saved_plan_is_refused(text: str, word: str) -> None:
    loaded, problems = load_plan(text)
    assert loaded is None
    assert [problem.code for problem in problems] == ["KI538"]
    assert word in problems[0].detail


def test_bytes_of_a_file_on_the_machine_are_told_by_their_codes() -> None:
    change = Change("file.x", Action.UPDATE, "so", (KeyChange("line 1", "a\udc80", None),))
    one = replace(a_saved_plan(), plan=Plan((change,), ()))
    loaded, _ = load_plan(save_plan(one))
    assert loaded is not None
    assert loaded.plan.changes[0].keys == (KeyChange("line 1", "a\\udc80", None),)


def test_a_file_that_is_kept_and_is_no_text_cannot_be_saved() -> None:
    one = replace(a_saved_plan(), plan=Plan((), (WriteArtifact("x", TextFile("a\udc80")),)))
    with pytest.raises(ProblemsError) as refused:
        save_plan(one)
    assert [problem.code for problem in refused.value.problems] == ["KI538"]


def test_each_side_that_moves_makes_a_plan_stale() -> None:
    desired = Site().desired()
    observed = converged(desired)
    one = saved(plan(desired, observed)[0], desired, observed)
    stopped = {**observed.units, "kloros-bus.service": UnitState("kloros-bus.service", ActiveState.FAILED)}
    sides = {
        "inputs": (Site(router_memory="1G").desired(), observed),
        "generation": (desired, replace(observed, history=replace(observed.history, current=2))),
        "files": (desired, replace(observed, files={**observed.files, LAYOUT.routing: TextFile("x")})),
        "weights": (desired, replace(observed, weights={})),
        "units": (desired, replace(observed, units=stopped)),
    }
    assert sides.keys() == MOVED.keys() == {field.name for field in fields(Fingerprint)}
    for name, (wants, has) in sides.items():
        problems = staleness(one, fingerprint(wants, has))
        assert [problem.code for problem in problems] == ["KI539"]
        assert MOVED[name] in problems[0].detail


def test_a_number_that_was_taken_meanwhile_makes_a_plan_stale() -> None:
    """Somebody applied, and went back: all is as before, but the generation that the plan stages is there."""
    desired = Site().desired()
    observed = converged(desired)
    before = fingerprint(desired, observed)
    went_back = replace(observed, history=replace(observed.history, numbers=(1, 2)))
    assert moved(before, fingerprint(desired, went_back)) == (MOVED["generation"],)


BUS = UnitState("kloros-bus.service", ActiveState.ACTIVE, main_pid=100)


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("generation", {"history": History((1,), 1, None)}),
        ("generation", {"history": History((1,), 1, 1, booted=1)}),
        ("generation", {"installed": Installed(staged=7)}),
        ("files", {"installed": Installed(kept={"x": Kept(1, None, UNKNOWN)})}),
        ("units", {"units": {BUS.unit: replace(BUS, main_pid=101)}}),
        ("units", {"units": {BUS.unit: replace(BUS, sub="auto-restart")}}),
        ("units", {"units": {BUS.unit: replace(BUS, drop_ins=("/etc/systemd/system/x.conf",))}}),
    ],
)
def test_everything_that_is_observed_counts(word: str, changes: dict[str, Any]) -> None:
    desired = Site().desired()
    observed = replace(converged(desired), installed=Installed(), units={BUS.unit: BUS})
    assert moved(fingerprint(desired, observed), fingerprint(desired, replace(observed, **changes))) == (MOVED[word],)


def test_everything_that_is_wanted_counts() -> None:
    desired = Site().desired()
    observed = converged(desired)
    slower = tuple(replace(unit, timeout_s=unit.timeout_s + 1) for unit in desired.units)
    for other in (replace(desired, exposure_limit=0.1), replace(desired, units=slower)):
        assert moved(fingerprint(desired, observed), fingerprint(other, observed)) == (MOVED["inputs"],)


def test_what_is_limited_differs_from_the_whole() -> None:
    desired = Site().desired()
    observed = converged(desired)
    whole = fingerprint(desired, observed)
    limited = fingerprint(replace(desired, only=frozenset({"x"})), observed)
    assert moved(whole, limited) == (MOVED["inputs"],)
