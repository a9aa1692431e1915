"""A switch of profile: what is left stays while its cards allow it, and makes way for what serves from then on."""

from __future__ import annotations

import pytest

from kloros_infra.ir.requests import Priority
from kloros_infra.ir.routing import RoutedModel, RoutedShare, Upstream
from kloros_infra.router.effects import Allocated, Refuse, RestartUnit, Send, StartUnit, StopUnit
from kloros_infra.router.events import (
    CardsStand,
    ClosedCard,
    Outcome,
    StartAsked,
    TableReplaced,
    UnitFailed,
    UnitSeen,
    UnitStarted,
    UnitStopped,
    Verdict,
)
from tests.unit.router.told import Told, a_host, a_model, a_table, an_instance

MAX, MID = CardsStand("max"), CardsStand("mid")
TAKEN = CardsStand("mid", (), ("one",))
"""Profile mid, as others use the card."""


def both(id: str, **changes: object) -> RoutedModel:
    """Build a model with an instance for either profile."""
    names = f"{id}-max", f"{id}-mid"
    return a_model(id, *(an_instance(name).model_copy(update=changes) for name in names))


def shared(id: str, **changes: object) -> RoutedModel:
    """Build a model whose one instance serves under both profiles."""
    upstream = an_instance(f"{id}-max").model_copy(update=changes)
    return a_model(id, upstream, upstream.model_copy(update={"profile": "mid"}))


def a_pair(*models: RoutedModel) -> Told:
    """Models under profile max, their instances ready, those that only mid has down."""
    told = Told(a_table(*models))
    upstreams = [upstream for model in models for upstream in model.upstreams]
    ready = {upstream.instance for upstream in upstreams if upstream.profile == "max"}
    told.down(*({upstream.instance for upstream in upstreams} - ready))
    told.up(*sorted(ready))
    return told


def orders(told: Told) -> list[object]:
    return [effect for effect in told.effects if isinstance(effect, StartUnit | StopUnit | RestartUnit)]


# What stays.


def test_what_is_left_stays_while_its_card_may_be_used_and_serves_until_its_successor_is_wanted() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    assert orders(told) == []
    id = told.ask("a")
    assert told.sent == [(id, "a-max")]
    told.end(id)
    assert (told.core.profile, told.state("a-max")) == ("mid", "healthy")


def test_its_allocations_are_of_the_active_profile() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    told.ask("a")
    told.after(0.1)
    (lent,) = told.of(Allocated)
    assert (lent.profile, lent.target) == ("mid", "a-max")


def test_where_its_card_may_not_be_used_it_stops_at_once_and_the_other_starts() -> None:
    told = a_pair(both("a"))
    told.tell(TAKEN)
    assert told.stopped == ["a-max"]
    id = told.ask("a")
    assert (told.sent, told.started) == ([], []), "its unit would stop the other's"
    told.tell(UnitStopped("a-max"))
    assert told.started == ["a-mid"]
    (left,) = [one for one in told.core.overview(told.now).instances if one.name == "a-max"]
    assert left.stopped_for == "card"
    told.healthy("a-mid")
    assert told.sent == [(id, "a-mid")]


def test_who_waits_for_it_when_its_card_goes_waits_for_the_other() -> None:
    told = a_pair(both("a"))
    working, waiting = told.ask("a"), told.ask("a")
    told.tell(CardsStand("mid", (ClosedCard("one", "absent"),), ("one",)))
    assert told.of(Refuse) != [], "the other needs that card as well"

    two = (RoutedShare(card="two", mib=1000),)
    told = a_pair(a_model("a", an_instance("a-max"), an_instance("a-mid", shares=two)))
    working, waiting = told.ask("a"), told.ask("a")
    told.tell(CardsStand("mid", (ClosedCard("one", "absent"),), ("one",)))
    assert told.of(Refuse) == []
    assert told.state("a-max") == "draining"
    told.end(working, Outcome.SERVED)
    told.tell(UnitStopped("a-max"))
    told.healthy("a-mid")
    assert told.sent == [(waiting, "a-mid")]


def test_it_stays_for_five_minutes_at_most() -> None:
    told = a_pair(both("a", idle_timeout_s=None))
    told.tell(MID)
    (view,) = [one for one in told.core.overview(told.now).instances if one.name == "a-max"]
    assert view.stops_in_s == 300.0
    told.after(299.0)
    assert orders(told) == []
    told.after(1.5)
    assert told.stopped == ["a-max"]


def test_it_goes_sooner_where_it_may_be_idle_for_less_than_that() -> None:
    told = a_pair(both("a", idle_timeout_s=20.0))
    told.after(10.0)
    told.tell(MID)
    told.after(9.0)
    assert orders(told) == []
    told.after(1.5)
    assert told.stopped == ["a-max"]


def test_what_was_pinned_is_only_while_its_profile_is_active() -> None:
    told = a_pair(both("a", is_pinned=True, idle_timeout_s=None), a_model("b", an_instance("b-mid", 9000)))
    told.down("b-mid")
    told.tell(CardsStand("mid"))
    assert told.stopped == ["a-max"], "the pinned one of the new profile starts at once"
    told.tell(UnitStopped("a-max"))
    assert told.started == ["a-mid"]


def test_what_is_still_at_work_after_five_minutes_finishes_within_its_time() -> None:
    told = a_pair(both("a", idle_timeout_s=3600.0))
    told.tell(MID)
    told.after(290.0)
    told.ask("a", for_s=900.0)
    (view,) = [one for one in told.core.overview(told.now).instances if one.name == "a-max"]
    assert view.stops_in_s == pytest.approx(10.0)
    told.after(11.0)
    assert (told.state("a-max"), told.stopped) == ("draining", [])
    told.after(30.0)
    assert told.stopped == ["a-max"]


def test_while_it_serves_for_another_it_is_not_idle() -> None:
    told = a_pair(both("a", idle_timeout_s=5.0))
    told.tell(MID)
    id = told.ask("a", for_s=900.0)
    told.after(50.0)
    assert orders(told) == []
    told.end(id)
    told.after(10.5)
    assert told.stopped == ["a-max"]


def test_a_profile_that_comes_back_finds_it_as_it_was() -> None:
    told = a_pair(both("a", preload=True), a_model("b"))
    told.up("b-max")
    told.tell(MID)
    assert told.stopped == ["a-max"]
    told.tell(MAX)
    told.after(0.0)
    told.tell(UnitStopped("a-max"))
    assert told.started == ["a-max"]
    assert told.state("b-max") == "healthy"
    id = told.ask("b")
    assert told.sent == [(id, "b-max")]


def test_what_does_not_serve_and_does_not_answer_is_stopped_and_not_restarted() -> None:
    told = a_pair(a_model("b"), both("c"))
    told.tell(MID)
    for _ in range(3):
        told.healthy("b-max", Verdict.FAILING)
    assert orders(told) == [StopUnit("b-max")]


def test_what_of_it_crashes_is_not_started_again() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    told.tell(UnitFailed("a-max", "killed"))
    told.after(5.0)
    assert told.started == []
    told.ask("a")
    assert told.started == ["a-mid"]


def test_what_loads_when_its_profile_is_left_may_come_up() -> None:
    told = Told(a_table(both("a"), a_model("b")))
    told.down("a-max", "a-mid")
    id = told.ask("a")
    assert told.started == ["a-max"]
    told.tell(UnitStarted("a-max"))
    told.tell(MID)
    assert told.stopped == ["a-max"], "somebody waits for the other"
    told.tell(UnitStopped("a-max"))
    told.healthy("a-mid")
    assert told.sent == [(id, "a-mid")]
    told.up("b-max")
    told.after(301.0)
    assert "b-max" in told.stopped


# What stands in.


def test_where_one_that_stands_in_is_in_doubt_the_one_of_the_profile_is_wanted() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    id = told.ask("a")
    told.end(id, Outcome.BROKEN)
    assert told.sent == []
    assert told.stopped == ["a-max"]


def test_a_request_that_is_too_long_for_it_starts_the_one_of_the_profile() -> None:
    small = an_instance("a-max", context_tokens=1000)
    told = a_pair(a_model("a", small, an_instance("a-mid", context_tokens=30_000)))
    told.tell(MID)
    short = told.ask("a", tokens=10)
    assert told.sent == [(short, "a-max")]
    told.end(short)
    long = told.ask("a", tokens=20_000)
    assert (told.sent, told.stopped) == ([], ["a-max"])
    told.tell(UnitStopped("a-max"))
    told.healthy("a-mid")
    assert told.sent == [(long, "a-mid")]


def test_it_serves_before_a_host_that_comes_after_this_machine() -> None:
    told = Told(a_table(both("a"), hosts=(a_host("east", "a"),)))
    told.down("a-mid")
    told.up("a-max")
    told.tell(MID)
    id = told.ask("a")
    assert told.sent == [(id, "a-max")]


def test_who_waits_for_less_than_a_load_would_take_is_served_by_it() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    working, waiting = told.ask("a"), told.ask("a")
    told.after(1.9)
    told.end(working)
    assert told.sent == [(waiting, "a-max")]
    told.end(waiting)
    assert orders(told) == []


def test_when_more_wait_than_it_can_serve_the_one_of_the_profile_takes_over() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    working, waiting = told.ask("a"), told.ask("a")
    told.after(2.0)
    assert told.state("a-max") == "draining"
    told.end(working)
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    told.healthy("a-mid")
    assert told.sent == [(waiting, "a-mid")]


def test_it_goes_on_for_as_long_where_an_idle_one_of_the_profile_is_in_the_way_as_well() -> None:
    told = a_pair(a_model("a", an_instance("a-max", 4000), an_instance("a-mid", 8000)), shared("c"))
    told.tell(MID)
    working, waiting = told.ask("a"), told.ask("a")
    told.after(1.9)
    assert (told.state("a-max"), told.stopped) == ("healthy", [])
    told.after(0.2)
    assert (told.state("a-max"), told.stopped) == ("draining", ["c-max"])
    told.end(working)
    told.tell(UnitStopped("c-max"))
    told.tell(UnitStopped("a-max"))
    told.healthy("a-mid")
    assert told.sent == [(waiting, "a-mid")]


def test_voice_waits_for_nobody_there_either() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    told.ask("a")
    told.ask("a", priority=Priority.VOICE)
    assert told.state("a-max") == "draining"


def test_what_starts_with_its_profile_takes_over_at_the_first_moment_without_a_request() -> None:
    told = a_pair(both("a", preload=True, parallel=2))
    first = told.ask("a")
    told.tell(MID)
    assert orders(told) == []
    second = told.ask("a")
    assert told.sent == [(second, "a-max")], "a stream may be long, and there is a place beside it"
    told.end(first)
    assert orders(told) == []
    told.end(second)
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    assert told.started == ["a-mid"]


def test_and_within_the_time_to_drain_where_there_is_none() -> None:
    told = a_pair(both("a", preload=True))
    told.ask("a", for_s=900.0)
    told.tell(MID)
    told.after(29.0)
    assert told.state("a-max") == "healthy"
    told.after(1.1)
    assert (told.state("a-max"), told.stopped) == ("draining", [])
    told.after(30.0)
    assert told.stopped == ["a-max"]


def test_a_model_that_the_profile_does_not_have_is_served_while_what_was_left_stays() -> None:
    told = a_pair(a_model("a"), both("b"))
    working, waiting = told.ask("a"), told.ask("a")
    told.tell(MID)
    assert told.effects[1:] == []
    told.end(working)
    assert told.sent == [(waiting, "a-max")]
    told.end(waiting, Outcome.BROKEN)
    assert told.of(Refuse) == [], "it may only have been that once"
    told.healthy("a-max")
    assert told.sent == [(waiting, "a-max")]
    told.tell(TAKEN)
    told.ask("a")
    assert told.refusal().problem.code == "KI806"


def test_an_operators_start_brings_the_one_of_the_profile() -> None:
    told = a_pair(both("a"))
    told.tell(MID)
    told.tell(StartAsked("a-mid"))
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    assert told.started == ["a-mid"]


# Who makes way.


def test_what_is_left_makes_way_at_once_for_what_is_to_run_anyway() -> None:
    told = a_pair(a_model("a", an_instance("a-max", 8000)), a_model("b", an_instance("b-mid", 6000, preload=True)))
    told.tell(MID)
    assert (told.stopped, told.started) == (["a-max"], [])
    told.tell(UnitStopped("a-max"))
    assert told.started == ["b-mid"]


def test_what_is_left_and_busy_makes_way_within_its_time_for_one_that_waits() -> None:
    told = a_pair(a_model("a", an_instance("a-max", 8000)), a_model("b", an_instance("b-mid", 6000)))
    told.ask("a", for_s=900.0)
    told.tell(MID)
    waiting = told.ask("b", for_s=900.0)
    assert (told.stopped, told.state("a-max")) == ([], "draining")
    told.after(30.5)
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    told.healthy("b-mid")
    assert told.sent == [(waiting, "b-mid")]


def test_no_active_one_stops_where_what_is_left_is_enough() -> None:
    left, small = an_instance("a-max", 5000), an_instance("c-max", 2000)
    told = a_pair(
        a_model("a", left),
        a_model("c", small, small.model_copy(update={"profile": "mid"})),
        a_model("b", an_instance("b-mid", 6000)),
    )
    told.tell(MID)
    told.ask("b")
    assert told.stopped == ["a-max"]
    told.ask("c")
    assert told.sent != []


def test_nobody_else_yields_while_one_that_leaves_is_enough() -> None:
    told = a_pair(a_model("a", an_instance("a-max", 5000)), shared("c"), a_model("b", an_instance("b-mid", 5000)))
    told.ask("a", for_s=900.0)
    busy = told.ask("c", for_s=900.0)
    told.tell(MID)
    told.ask("b", for_s=900.0)
    assert told.state("a-max") == "draining"
    told.after(10.0)
    assert told.state("c-max") == "healthy"
    id = told.ask("c")
    told.end(busy)
    assert told.sent == [(id, "c-max")], "c would have been the smaller one to stop"


# What both profiles share.


def test_an_instance_that_both_profiles_share_notices_nothing() -> None:
    told = a_pair(shared("a", preload=True))
    working, waiting = told.ask("a"), told.ask("a")
    told.tell(TAKEN)
    assert orders(told) == []
    assert told.of(Refuse) == []
    told.end(working)
    assert told.sent == [(waiting, "a-max")]
    told.after(0.1)
    (lent,) = told.of(Allocated)
    assert (lent.profile, lent.target) == ("mid", "a-max")
    told.tell(MAX)
    told.end(waiting)
    assert orders(told) == []
    (view,) = told.core.overview(told.now).instances
    assert (view.profile, view.is_active) == ("max", True)


def test_it_is_shown_as_the_active_profiles() -> None:
    told = a_pair(shared("a"))
    told.tell(MID)
    (view,) = told.core.overview(told.now).instances
    assert (view.name, view.profile) == ("a-max", "mid")


def test_it_stays_for_a_while_where_a_third_profile_does_not_have_it() -> None:
    told = a_pair(shared("a", idle_timeout_s=None))
    told.tell(CardsStand("low"))
    told.after(100.0)
    told.tell(MID)
    told.after(250.0)
    assert told.stopped == []
    told.tell(CardsStand("low"))
    told.after(299.0)
    assert told.stopped == []
    told.after(2.0)
    assert told.stopped == ["a-max"], "the time counts from when it was left last"


def test_as_it_runs_it_is_known_under_every_profile_that_has_it() -> None:
    told = a_pair(shared("a", context_tokens=5000))
    told.now += 5.0
    told.tell(TableReplaced(a_table(shared("a", definition="2", context_tokens=99))))
    for stand in (MID, MAX):
        told.tell(stand)
        id = told.ask("a", tokens=1000)
        (send,) = told.of(Send)
        assert (send.target.name, send.target.context_tokens) == ("a-max", 5000), "apply has not restarted it"
        told.end(id)


@pytest.mark.parametrize("profile", ["max", "mid"])
def test_what_nobody_knows_of_when_the_router_starts_is_looked_at_before_it_is_stopped(profile: str) -> None:
    told = Told(a_table(both("a"), shared("b")), profile=profile)
    other: Upstream = both("a").upstreams[0 if profile == "mid" else 1]
    assert told.after(0.0) != []
    assert told.stopped == []
    told.tell(UnitSeen(other.instance, is_up=True, pid=5))
    told.healthy(other.instance)
    told.after(301.0)
    assert other.instance in told.stopped
