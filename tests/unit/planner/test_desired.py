"""What a catalog and its files ask of a machine."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import BridgeAddresses
from kloros_infra.planner.cost import expected_load_s, start_timeout_s
from kloros_infra.planner.desired import DerivedWeights, Desired, Run, desired_state, nothing_desired
from tests.sites import LAYOUT, MiniModel, Site


def runs(desired: Desired) -> dict[str, Run]:
    return {unit.unit: unit.run for unit in desired.units}


def test_units_stand_in_start_order() -> None:
    assert runs(Site().desired()) == {
        "kloros-bus.service": Run.ALWAYS,
        "llama@code-max.service": Run.ALWAYS,
        "llama@code-mid.service": Run.NEVER,
        "llama@chat-max.service": Run.ALWAYS,
        "llama@chat-mid.service": Run.NEVER,
        "kloros-router.service": Run.ALWAYS,
        "kloros-profile-max.target": Run.ALWAYS,
        "kloros-profile-mid.target": Run.NEVER,
        "kloros-profile.service": Run.ALWAYS,
        "kloros-llm.target": Run.ALWAYS,
    }
    assert list(runs(Site().desired()))[:2] == ["kloros-bus.service", "llama@code-max.service"]
    assert list(runs(Site().desired()))[-1] == "kloros-llm.target"


def test_a_model_that_is_not_preloaded_runs_on_demand() -> None:
    site = Site(models=(MiniModel("code", {"max": 8601, "mid": 8602}, preload=False),))
    assert runs(site.desired())["llama@code-max.service"] is Run.ON_DEMAND
    assert runs(site.desired())["llama@code-mid.service"] is Run.NEVER


def test_a_bus_that_others_run_is_none_of_our_units() -> None:
    assert "kloros-bus.service" not in runs(Site(with_bus=False).desired())


def test_units_that_something_else_starts_are_known_too() -> None:
    path = LAYOUT.unit_path("kloros-reconcile.path")
    site = Site(extra={path: "[Path]\nPathExists=/run/kloros/dirty\n"})
    assert runs(site.desired())["kloros-reconcile.path"] is Run.ON_DEMAND


def test_readiness_is_asked_where_each_unit_answers() -> None:
    units = {unit.unit: unit for unit in Site().desired().units}
    assert units["kloros-bus.service"].ready_url == "tcp://127.0.0.1:5557"
    assert units["kloros-bus.service"].ports == (5556, 5557)
    assert units["llama@code-max.service"].ready_url == "http://127.0.0.1:8601/health"
    assert units["kloros-router.service"].ready_url == "http://127.0.0.1:11434/health"
    assert units["kloros-llm.target"].ready_url is None


def test_an_ipv6_bridge_is_asked_in_brackets() -> None:
    site = Site()
    catalog = replace(site.catalog(), bridge=BridgeAddresses(host="::1", ports=(1234, 5678)))
    desired = desired_state(catalog, site.tree(), layout=LAYOUT, profile="max")
    router = next(unit for unit in desired.units if unit.unit == "kloros-router.service")
    assert router.ready_url == "http://[::1]:1234/health"
    assert router.ports == (1234, 5678)


def test_only_weights_of_installed_instances_are_placed() -> None:
    site = Site()
    tree = {path: artifact for path, artifact in site.tree().items() if "llama@chat" not in path}
    desired = desired_state(site.catalog(), tree, layout=LAYOUT, profile="max")
    assert [step.key for step in desired.weights] == ["code@1"]
    (step,) = desired.weights
    assert step.destination == "var/lib/llama-models/code/1/model.gguf"
    assert step.sources == ("file:///weights/small.gguf",)


def test_derived_weights_are_named_with_their_units_and_not_placed() -> None:
    desired = Site(models=(MiniModel("code", {"max": 8601, "mid": 8602}, is_derived=True),)).desired()
    assert desired.weights == ()
    assert desired.derived == (DerivedWeights("code@1", ("llama@code-max.service", "llama@code-mid.service")),)


def test_destroy_wants_nothing() -> None:
    assert nothing_desired(LAYOUT).is_destroyed
    assert nothing_desired(LAYOUT).keeps_weights
    assert not nothing_desired(LAYOUT, with_weights=True).keeps_weights
    assert not replace(nothing_desired(LAYOUT), tree={"etc/x": TextFile("")}).is_destroyed


def test_a_deadline_is_far_beyond_what_is_expected() -> None:
    for size in (0, 10**8, 10**11):
        assert start_timeout_s(size) > 10 * expected_load_s(size)
