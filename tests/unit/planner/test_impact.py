"""What an apply costs meanwhile: times, figures of cards, and who stands in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.impact import CardMemory, Detour, Impact, UnitImpact
from kloros_infra.ir.observed import ActiveState, Observed, UnitState
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.detours import Outage, detours
from kloros_infra.planner.diff import plan
from kloros_infra.planner.impact import metrics_urls, with_requests
from tests.sites import LAYOUT, MiniModel, Site, converged, fresh

GB = 10**9
CODE, CHAT = "llama@code-max.service", "llama@chat-max.service"
STANDARD = {model.name: model for model in Site().models}


def a_site(purposes: dict[str, tuple[str, ...]] | None = None, **changes: dict[str, object]) -> Site:
    models = tuple(replace(model, **changes.get(name, {})) for name, model in STANDARD.items())  # type: ignore[arg-type]
    return Site(models=models, purposes=purposes or {})


def change(before: Site, after: Site) -> tuple[Plan, Observed]:
    observed = converged(before.desired())
    return plan(after.desired(), observed)[0], observed


def test_a_restart_costs_a_load_and_reads_the_weights() -> None:
    made, _ = change(Site(), a_site(code={"context": 32000}))
    assert made.impact.units == (UnitImpact(CODE, 5.0, 4 * GB, None, is_interrupted=True),)
    assert made.impact.reduced_s == 5.0
    assert made.impact.read_bytes == 4 * GB


def test_what_was_not_up_is_not_down() -> None:
    desired = Site().desired()
    made, _ = plan(desired, fresh(desired))
    assert made.impact.reduced_s == 0.0
    assert not any(unit.seconds_down or unit.is_interrupted for unit in made.impact.units)
    assert made.impact.read_bytes == 8 * GB


def test_what_is_gone_for_good_counts_no_seconds() -> None:
    made, _ = change(Site(), Site(models=(STANDARD["code"],)))
    assert made.impact.reduced_s == 0.0
    assert made.impact.units == (UnitImpact(CHAT, is_interrupted=True),)


def test_a_profile_switch_is_down_from_the_first_stop_to_the_last_answer() -> None:
    made, _ = change(Site(), Site(profile="mid"))
    seconds = {unit.unit: unit.seconds_down for unit in made.impact.units}
    assert seconds["llama@code-mid.service"] == 9.0
    assert seconds["llama@chat-mid.service"] == 9.0
    assert seconds[CODE] == 0.0
    assert made.impact.reduced_s == 9.0


def test_the_server_is_asked_on_the_port_that_it_has_now() -> None:
    after = a_site(code={"ports": {"max": 9001, "mid": 8602}})
    made, observed = change(Site(), after)
    assert metrics_urls(made, after.desired(), observed) == {CODE: "http://127.0.0.1:8601/metrics"}
    assert metrics_urls(Plan((), ()), after.desired(), observed) == {}


def test_a_unit_without_a_port_or_not_interrupted_is_not_asked() -> None:
    after = Site(router_memory="1G", llama_server="/other")
    observed = converged(Site().desired())
    down = UnitState(CHAT, ActiveState.INACTIVE)
    files = {path: file for path, file in observed.files.items() if "env/code-max" not in path}
    observed = replace(observed, files=files, units={**observed.units, CHAT: down})
    made, _ = plan(after.desired(), observed)
    interrupted = {unit.unit: unit.is_interrupted for unit in made.impact.units}
    assert interrupted == {CODE: True, CHAT: False}
    assert metrics_urls(made, after.desired(), observed) == {}


def test_requests_are_added_where_they_are_known() -> None:
    made, _ = change(Site(), a_site(code={"context": 32000}, chat={"context": 32000}))
    known = {unit.unit: unit.requests for unit in with_requests(made, {CODE: 3}).impact.units}
    assert known == {CODE: 3, CHAT: None}


def test_cards_are_added_up_from_what_runs() -> None:
    before = a_site(code={"vram": "a:10/100 b:5/50"}, chat={"vram": "a:20/100", "preload": False})
    after = a_site(code={"vram": "a:12/90"}, chat={"vram": "a:20/90", "preload": False})
    made, _ = change(before, after)
    mib = 2**20
    assert made.impact.cards == (
        CardMemory("a", 10 * mib, 12 * mib, 90 * mib),
        CardMemory("b", 5 * mib, 0, 50 * mib),
    )
    assert not made.impact.cards[0].is_over


def test_a_unit_file_that_is_a_link_says_nothing_about_cards() -> None:
    desired = a_site(code={"vram": "a:10/100"}).desired()
    observed = converged(desired)
    files = {**observed.files, LAYOUT.unit_path(CODE): Link("/elsewhere")}
    made, _ = plan(desired, replace(observed, files=files))
    assert made.impact.cards == (CardMemory("a", 0, 10 * 2**20, 100 * 2**20),)


@pytest.mark.parametrize("text", ['{"version": 2}', "none"])
def test_a_routing_table_of_another_kind_tells_no_detours(text: str) -> None:
    desired = a_site({"code": ("code",)}).desired()
    outage = (Outage(CODE, 0.0, 1.0),)
    assert detours(desired, outage, frozenset({CODE})) == (Detour("code", CODE, None),)
    strange = replace(desired, tree={**desired.tree, LAYOUT.routing: TextFile(text)})
    assert detours(strange, outage, frozenset({CODE})) == ()
    without = replace(desired, tree={})
    assert detours(without, outage, frozenset({CODE})) == ()


def test_a_purpose_that_nobody_serves_anyway_has_no_detour() -> None:
    desired = a_site({"code": ("code",), "gone": ("nobody",)}).desired()
    assert detours(desired, (Outage(CHAT, 0.0, 1.0),), frozenset({CHAT})) == ()


def test_a_purpose_goes_on_with_those_of_its_otherwise() -> None:
    desired = a_site({"code": ("code",), "talk": ("chat",)}).desired()
    routing = desired.tree[LAYOUT.routing]
    assert isinstance(routing, TextFile)
    text = routing.text.replace(
        '"name": "code",\n      "otherwise": null', '"name": "code",\n      "otherwise": "talk"'
    )
    assert text != routing.text
    chained = replace(desired, tree={**desired.tree, LAYOUT.routing: TextFile(text)})
    found = detours(chained, (Outage(CODE, 0.0, 1.0),), frozenset({CODE, CHAT}))
    assert found == (Detour("code", CODE, CHAT),)


def test_a_model_stands_alone_when_any_of_its_purposes_does() -> None:
    units = (
        UnitImpact("llama@a-max.service", 5.0),
        UnitImpact("llama@b-max.service", 5.0),
        UnitImpact("bus.service", 1.0),
    )
    found = (
        Detour("one", "llama@a-max.service", "x"),
        Detour("two", "llama@a-max.service", None),
        Detour("three", "llama@b-max.service", "x"),
    )
    assert Impact(units, detours=found).without_stand_in == ("llama@a-max.service",)
    assert Impact(units).without_stand_in == ("llama@a-max.service", "llama@b-max.service")


def test_outages_overlap_when_both_are_down_at_some_moment() -> None:
    assert Outage("a", 0, 2).overlaps(Outage("b", 1, 3))
    assert not Outage("a", 0, 2).overlaps(Outage("b", 2, 3))
    assert MiniModel("x", {}).vram == ""


def test_what_was_still_starting_is_restarted_without_being_missed() -> None:
    observed = converged(Site().desired())
    starting = UnitState(CODE, ActiveState.ACTIVATING, main_pid=5)
    observed = replace(observed, units={**observed.units, CODE: starting})
    made, _ = plan(a_site(code={"context": 9}).desired(), observed)
    assert made.impact.units == (UnitImpact(CODE, read_bytes=4 * GB),)
