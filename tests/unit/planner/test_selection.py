"""--only and --replace: which units a name means, and what is left as it is; whole plans are in tests/cases/plan."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.diagnostics import Severity
from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.generation_changes import manifest_of
from kloros_infra.planner.selection import chosen_units, narrowed, part_of_another_profile, unit_names, unknown_name
from tests.sites import LAYOUT, MiniModel, Site, converged, fresh

CODE = frozenset({"llama@code-max.service", "llama@code-mid.service"})
WITH_ROUTES = Site(purposes={"code": ("code", "chat")})


def changed(**models: dict[str, object]) -> Site:
    kept = tuple(replace(model, **models.get(model.name, {})) for model in Site().models)  # type: ignore[arg-type]
    return replace(WITH_ROUTES, models=kept)


def upstreams(artifact: Artifact | None) -> dict[str, list[tuple[str, int]]]:
    assert isinstance(artifact, TextFile)
    models = json.loads(artifact.text)["models"]
    return {model["id"]: [(one["instance"], one["port"]) for one in model["upstreams"]] for model in models}


def test_units_instances_models_and_aliases_are_names() -> None:
    site = Site()
    desired = site.desired()
    names = unit_names(site.catalog(), desired, converged(desired))
    assert names["code"] == CODE
    assert names["code-max"] == names["llama@code-max.service"] == frozenset({"llama@code-max.service"})
    assert names["kloros-router.service"] == frozenset({"kloros-router.service"})
    instance = site.catalog().instances[0]
    assert all(names[alias] == names[instance.model.id] for alias in instance.model.aliases)


def test_what_is_only_installed_has_a_name_as_well() -> None:
    desired = replace(Site(), models=(MiniModel("chat", {"max": 8611}),)).desired()
    assert unit_names(None, desired, converged(Site().desired()))["code"] == CODE


def test_unknown_names_are_all_reported() -> None:
    desired = Site().desired()
    units, problems = chosen_units(["code", "cod", "zzz"], unit_names(None, desired, fresh(desired)))
    assert units == CODE
    assert [problem.code for problem in problems] == ["KI537", "KI537"]
    assert "code" in problems[0].hint
    assert "There is: chat, chat-max, chat-mid," in problems[1].hint
    assert problems[1].hint.endswith(" more.")


def test_where_nothing_has_a_name_that_is_said() -> None:
    assert unknown_name("x", (), kind="GPU in a profile").hint == "There is none at all."


def test_a_part_of_a_generation_still_knows_all_of_it() -> None:
    """A rollback to it places the weights, and starts the units, of what was not chosen as well."""
    before = Site().desired()
    observed = converged(before)
    without_chat = Site(models=(replace(Site().models[0], context=32000, version="2"),)).desired()
    manifest = manifest_of(narrowed(without_chat, observed, CODE), 2)
    assert {step.destination for step in manifest.weights} == {
        LAYOUT.weights_path(model, version) for model, version in (("chat", "1"), ("code", "2"))
    }
    assert {unit.unit for unit in manifest.units} == {unit.unit for unit in before.units}
    made, _ = plan(narrowed(without_chat, observed, CODE), observed)
    assert not any("chat" in change.address for change in made.changes)


def test_a_switch_of_the_profile_is_nothing_for_a_part() -> None:
    problem = part_of_another_profile("max")
    assert problem.code == "KI559"
    assert "max" in problem.detail


def test_only_the_chosen_port_moves_in_the_routes() -> None:
    after = changed(code={"ports": {"max": 9001, "mid": 9002}}, chat={"ports": {"max": 9011, "mid": 9012}})
    one = narrowed(after.desired(), converged(WITH_ROUTES.desired()), frozenset({"llama@code-max.service"}))
    assert upstreams(one.tree[LAYOUT.routing]) == {
        "code": [("code-max", 9001), ("code-mid", 8602)],
        "chat": [("chat-max", 8611), ("chat-mid", 8612)],
    }


def test_a_table_that_needs_no_change_stays_byte_by_byte() -> None:
    observed = converged(WITH_ROUTES.desired())
    own = observed.files[LAYOUT.routing]
    assert isinstance(own, TextFile)
    compact = TextFile(json.dumps(json.loads(own.text)))
    observed = replace(observed, files={**observed.files, LAYOUT.routing: compact})
    assert narrowed(WITH_ROUTES.desired(), observed, CODE).tree[LAYOUT.routing] == compact


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"models": 1}', '{"models": [1]}', '{"models": [{"id": "a", "upstreams": [{}]}]}']
)
def test_a_table_that_somebody_broke_is_left_alone(text: str) -> None:
    observed = converged(WITH_ROUTES.desired())
    broken = TextFile(text)
    observed = replace(observed, files={**observed.files, LAYOUT.routing: broken})
    after = changed(code={"ports": {"max": 9001, "mid": 9002}})
    assert narrowed(after.desired(), observed, CODE).tree[LAYOUT.routing] == broken


def test_a_part_of_a_table_of_another_release_is_refused() -> None:
    desired, observed = WITH_ROUTES.desired(), converged(WITH_ROUTES.desired())
    own = observed.files[LAYOUT.routing]
    assert isinstance(own, TextFile)
    assert narrowed(desired, observed, CODE).refusals == desired.refusals
    former = TextFile(json.dumps(json.loads(own.text) | {"version": 1}))
    observed = replace(observed, files={**observed.files, LAYOUT.routing: former})
    made, problems = plan(narrowed(desired, observed, CODE), observed)
    assert [(one.code, one.severity) for one in made.refusals] == [("KI567", Severity.ERROR)]
    assert [(one.code, one.severity) for one in problems] == [("KI567", Severity.WARNING)]
    assert "version 1" in made.refusals[0].detail
    assert plan(desired, observed)[0].refusals == ()


def test_a_table_that_is_a_link_is_left_alone() -> None:
    observed = converged(WITH_ROUTES.desired())
    observed = replace(observed, files={**observed.files, LAYOUT.routing: Link("x")})
    assert narrowed(WITH_ROUTES.desired(), observed, CODE).tree[LAYOUT.routing] == Link("x")


def test_a_model_without_upstreams_stays() -> None:
    observed = converged(WITH_ROUTES.desired())
    own = observed.files[LAYOUT.routing]
    assert isinstance(own, TextFile)
    table = json.loads(own.text)
    table["models"].append({**table["models"][0], "id": "idle", "upstreams": []})
    observed = replace(observed, files={**observed.files, LAYOUT.routing: TextFile(json.dumps(table))})
    assert upstreams(narrowed(WITH_ROUTES.desired(), observed, CODE).tree[LAYOUT.routing])["idle"] == []


def test_what_stays_is_described_as_its_generation_does() -> None:
    after = changed(code={"ports": {"max": 9001, "mid": 9002}}, chat={"ports": {"max": 9011, "mid": 9012}})
    observed = converged(WITH_ROUTES.desired())
    ports = {unit.unit: unit.ports for unit in narrowed(after.desired(), observed, CODE).units}
    assert ports["llama@code-max.service"] == (9001,)
    assert ports["llama@chat-max.service"] == (8611,)
    without = narrowed(after.desired(), replace(observed, manifest=None), CODE)
    assert {unit.unit: unit.ports for unit in without.units}["llama@chat-max.service"] == (9011,)


def test_unpinned_weights_of_others_are_no_matter() -> None:
    models = (MiniModel("code", {"max": 8601}), MiniModel("chat", {"max": 8611}, is_derived=True))
    desired = Site(models=models).desired()
    observed = fresh(desired)
    assert len(desired.derived) == 1
    assert narrowed(desired, observed, frozenset({"llama@code-max.service"})).derived == ()
    assert narrowed(desired, observed, frozenset({"llama@chat-max.service"})).derived == desired.derived


def the_rest(desired: Desired) -> set[str]:
    return {path for path in desired.tree if "chat" in path and "routing" not in path}


@given(st.sampled_from(["context", "memory", "description", "version"]), st.booleans())
def test_everything_else_stays_and_a_second_time_nothing_is_left(field: str, has_routes: bool) -> None:
    value: object = {"context": 4096, "memory": "9G", "description": "x", "version": "2"}[field]
    before = WITH_ROUTES if has_routes else Site()
    after = replace(before, models=tuple(replace(model, **{field: value}) for model in before.models))  # type: ignore[arg-type]
    observed = converged(before.desired())
    one = narrowed(after.desired(), observed, CODE)
    assert all(one.tree[path] == observed.files[path] for path in the_rest(before.desired()))
    assert not any("chat" in change.address for change in plan(one, observed)[0].changes)
    applied = converged(replace(one, only=None))
    assert plan(narrowed(after.desired(), applied, CODE), applied)[0].is_empty
