"""A unit that several profiles share: wanted under each of them, and left alone by a switch between them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kloros_infra.ir.artifact import TextFile, text_of
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.generation import DesiredUnit, Generation, Manifest, Provenance, Run
from kloros_infra.ir.names import InstanceId, is_instance, profile_target
from kloros_infra.ir.observed import ActiveState, Installed, Observed, UnitState
from kloros_infra.ir.plan import RestartUnit, StartUnit, StopUnit
from kloros_infra.planner.desired import Desired, desired_state
from kloros_infra.planner.diff import plan
from kloros_infra.planner.generation_changes import desired_of, manifest_of, profile_at
from kloros_infra.planner.held import stopped_by_hand
from kloros_infra.planner.matrix import matrix
from kloros_infra.planner.selection import chosen_units, narrowed, unit_names
from tests.factories import a_profile
from tests.sites import LAYOUT, MiniModel, Site, converged

SHARED, FORMER = "llama@code-max.service", "llama@code-mid.service"
CHAT = MiniModel("chat", {"max": 8611, "mid": 8612})
APART = Site(models=(MiniModel("code", {"max": 8601, "mid": 8602}), CHAT))
JOINED = Site(models=(MiniModel("code", {"max": 8601}), CHAT))


def catalog() -> Catalog:
    """Have the instance of one model serve under both profiles."""
    found = JOINED.catalog()
    code = next(one for one in found.instances if one.model.id == "code")
    mid = replace(code, id=InstanceId("code", "mid"), profile=a_profile("mid"), shared_with=code.id)
    return replace(found, instances=(*found.instances, mid))


def joined(profile: str, routes: object = None) -> Desired:
    """Say what is wanted where the instance is shared."""
    tree = JOINED.tree() if routes is None else {**JOINED.tree(), LAYOUT.routing: TextFile(json.dumps(routes))}
    return desired_state(catalog(), tree, layout=LAYOUT, profile=profile)


def apart(profile: str) -> Desired:
    return replace(APART, profile=profile).desired()


def unit_steps(desired: Desired, observed: Observed) -> list[StartUnit | StopUnit | RestartUnit]:
    """List what is done to instances."""
    found, _ = plan(desired, observed)
    about_units = (step for step in found.steps if isinstance(step, StartUnit | StopUnit | RestartUnit))
    return [step for step in about_units if is_instance(step.unit)]


@pytest.mark.parametrize("profile", ["max", "mid"])
def test_it_is_wanted_once_and_under_each_of_its_profiles(profile: str) -> None:
    (unit,) = [unit for unit in joined(profile).units if unit.unit == SHARED]

    assert (unit.run, unit.profiles) == (Run.ALWAYS, ("max", "mid"))
    assert unit.under("cpu_only").run is Run.NEVER


@pytest.mark.parametrize(("before", "after"), [("max", "mid"), ("mid", "max")])
def test_a_switch_leaves_it_alone(before: str, after: str) -> None:
    found = unit_steps(joined(after), converged(joined(before)))

    assert StopUnit(f"llama@chat-{before}.service") in found
    assert StartUnit(f"llama@chat-{after}.service") in found
    assert not [step for step in found if step.unit == SHARED]


def test_what_it_stands_for_from_now_on_is_removed() -> None:
    desired = joined("mid")

    assert unit_steps(desired, converged(apart("mid"))) == [StartUnit(SHARED), StopUnit(FORMER)]
    assert LAYOUT.unit_path(FORMER) not in desired.tree


def test_a_generation_remembers_under_which_profiles_it_runs() -> None:
    manifest = manifest_of(joined("max"), 1)
    only = replace(manifest, units=tuple(unit for unit in manifest.units if unit.unit == SHARED))

    assert profile_at(only, "mid") == "mid"
    assert profile_at(only, "cpu_only") == "max"
    assert {unit.unit: unit.run for unit in desired_of(Generation(only, files={}), LAYOUT, "mid").units} == {
        SHARED: Run.ALWAYS
    }


@pytest.mark.parametrize("up", ["max", "mid"])
def test_it_was_stopped_by_hand_if_it_ended_under_any_of_its_profiles(up: str) -> None:
    unit = DesiredUnit(SHARED, Run.ALWAYS, profile="max", further_profiles=("mid",))
    manifest = Manifest(1, Provenance(), "max", files={}, fixed={}, units=(unit,))
    states = {
        SHARED: UnitState(SHARED, ActiveState.INACTIVE, has_ended=True),
        profile_target(up): UnitState(profile_target(up), ActiveState.ACTIVE),
    }

    assert stopped_by_hand(states, Installed(), manifest) == {SHARED}
    assert stopped_by_hand({SHARED: states[SHARED]}, Installed(), manifest) == frozenset()


def test_every_set_of_cards_lists_it_where_it_runs() -> None:
    profiles = [a_profile("max"), a_profile("mid")]

    (best,) = matrix(joined("max"), profiles, lambda _: "max")
    (next_best,) = matrix(joined("max"), profiles, lambda _: "mid")
    assert (best.instances, next_best.instances) == (("code-max", "chat-max"), ("code-max", "chat-mid"))


def test_a_name_means_all_instances_of_which_some_are_or_were_one() -> None:
    both = frozenset({SHARED, FORMER})
    for desired, observed in ((joined("max"), converged(apart("max"))), (apart("max"), converged(joined("max")))):
        names = unit_names(catalog(), desired, observed)
        for name in ("code", SHARED, FORMER, "code-max", "code-mid"):
            assert names[name] == both, name
        assert names["chat-max"] == {"llama@chat-max.service"}


def test_the_name_that_a_shared_instance_would_have_means_it() -> None:
    names = unit_names(catalog(), joined("max"), converged(joined("max")))

    assert chosen_units(["code-mid"], names) == (frozenset({SHARED}), ())


def routes(*upstreams: tuple[str, str]) -> dict[str, object]:
    found = [{"unit": f"llama@{unit}.service", "profile": profile} for unit, profile in upstreams]
    return {"version": 1, "models": [{"id": "code", "upstreams": found}]}


def test_a_part_takes_the_routes_of_all_profiles_that_share_it() -> None:
    shared = routes(("code-max", "max"), ("code-max", "mid"), ("code-cpu_only", "cpu_only"))
    former = converged(joined("max", routes(("code-max", "max"), ("code-mid", "mid"), ("code-cpu_only", "cpu_only"))))
    desired = joined("max", shared)

    chosen = narrowed(desired, former, frozenset({SHARED, FORMER}))
    assert json.loads(text_of(chosen.tree[LAYOUT.routing])) == shared
    same = narrowed(desired, converged(desired), frozenset({"llama@chat-max.service"}))
    assert same.tree[LAYOUT.routing] == desired.tree[LAYOUT.routing]
