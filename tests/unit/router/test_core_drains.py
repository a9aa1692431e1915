"""Instances that are to stop once their requests are done: for a profile, a table, or an operator."""

from __future__ import annotations

import pytest

from kloros_infra.ir.announcements import News
from kloros_infra.ir.routing import RoutedPurpose
from kloros_infra.router.effects import Allocated, AllocationChange, Announce, Refuse, Send
from kloros_infra.router.events import (
    Began,
    CardsStand,
    Left,
    Outcome,
    StartAsked,
    StopAsked,
    TableReplaced,
    UnitSeen,
    UnitStopped,
)
from tests.unit.router.told import Told, a_model, a_table, an_instance


@pytest.fixture
def stopped() -> Told:
    """One model, whose unit does not run."""
    told = Told(a_table(a_model("a")))
    told.after(0.0)
    told.down("a-max")
    return told


@pytest.fixture
def ready() -> Told:
    """One model, ready."""
    told = Told(a_table(a_model("a")))
    told.up("a-max")
    return told


def test_preloaded_and_pinned_instances_start_with_their_profile() -> None:
    table = a_table(
        a_model("a", an_instance("a-max", preload=True), an_instance("a-mid")),
        a_model("b", an_instance("b-max", is_pinned=True), an_instance("b-mid", preload=True)),
        a_model("c"),
    )
    told = Told(table)
    assert set(map(str, told.down("a-max", "b-max", "c-max", "a-mid", "b-mid"))) == {
        "StartUnit(instance='a-max')",
        "StartUnit(instance='b-max')",
    }
    told.up("a-max", "b-max")
    effects = told.tell(CardsStand("mid"))
    assert told.stopped == ["b-max"]  # the same model's; the other is in nobody's way
    assert told.started == []  # there is no room before it is gone
    assert any(isinstance(effect, Announce) and effect == (News.PROFILE_CHANGED, "mid", "") for effect in effects)
    told.tell(UnitStopped("b-max"))
    assert (told.started, told.stopped) == (["b-mid"], [])
    assert told.tell(CardsStand("mid")) == []


def test_a_profile_drains_what_it_leaves_and_its_requests_finish(ready: Told) -> None:
    table = a_table(a_model("a", an_instance("a-max"), an_instance("a-mid")))
    ready.tell(TableReplaced(table))
    ready.down("a-mid")
    working, waiting = ready.ask("a"), ready.ask("a")
    ready.tell(CardsStand("mid"))
    assert ready.stopped == []
    assert ready.state("a-max") == "healthy"  # it may well serve the other one as well
    ready.after(2.0)
    assert ready.state("a-max") == "draining"
    assert ready.started == []  # instances of one model stop each other
    ready.end(working)
    assert ready.stopped == ["a-max"]
    ready.tell(UnitStopped("a-max"))
    assert ready.started == ["a-mid"]
    ready.healthy("a-mid")
    assert ready.sent == [(waiting, "a-mid")]


def test_a_drain_ends_when_its_time_is_over_and_takes_back_what_was_lent(ready: Told) -> None:
    working = ready.ask("a", for_s=500.0)
    ready.after(0.1)
    ready.tell(StopAsked("a-max"))
    ready.after(29.0)
    assert ready.stopped == []
    ready.after(2.0)
    assert ready.stopped == ["a-max"]
    (evicted,) = ready.of(Allocated)
    assert (evicted.change, evicted.request_id) == (AllocationChange.EVICTED, working)
    ready.tell(Began(working))
    assert ready.end(working, Outcome.BROKEN) == []


def test_a_drain_that_is_over_is_not_ended_again(ready: Told) -> None:
    working = ready.ask("a")
    ready.tell(StopAsked("a-max"))
    ready.end(working)
    assert ready.stopped == ["a-max"]
    ready.after(60.0)
    assert ready.stopped == []


def test_a_profile_that_comes_back_finds_what_had_not_stopped(ready: Told) -> None:
    working, waiting = ready.ask("a"), ready.ask("a")
    ready.tell(CardsStand("mid", ineligible=("one",)))
    assert {refusal.id for refusal in ready.of(Refuse)} == {waiting}
    ready.tell(CardsStand("max"))
    next_one = ready.ask("a")
    ready.end(working)
    ready.healthy("a-max")
    assert ready.sent == [(next_one, "a-max")]


def test_an_instance_that_is_defined_otherwise_serves_as_it_was_until_its_process_changes(ready: Told) -> None:
    ready.now += 5.0
    first = ready.ask("a")
    waiting = ready.ask("a")
    other = an_instance("a-max", definition="2", parallel=3, port=9999, context_tokens=7)
    assert ready.tell(TableReplaced(a_table(a_model("a", other)))) == []
    assert ready.state("a-max") == "healthy"
    ready.end(first)
    (send,) = ready.of(Send)
    assert (send.id, send.target.port) == (waiting, 8601)
    ready.after(40.0)
    assert ready.stopped == []

    ready.tell(UnitSeen("a-max", is_up=True, pid=101))  # apply has restarted it
    ready.end(waiting, Outcome.BROKEN)
    ready.healthy("a-max")
    (send,) = ready.of(Send)
    assert (send.id, send.target.port, send.target.context_tokens) == (waiting, 9999, 7)
    assert len([ready.ask("a") for _ in range(2) if ready.sent]) == 2  # three at a time now
    assert ready.stopped == ready.started == []


def test_one_that_apply_has_restarted_meanwhile_is_not_stopped_again(ready: Told) -> None:
    working = ready.ask("a")
    ready.tell(TableReplaced(a_table(a_model("a", an_instance("a-max", definition="2")))))
    ready.tell(UnitSeen("a-max", is_up=True, pid=555))
    assert ready.state("a-max") == "loading"
    ready.tell(Began(working))
    ready.end(working, Outcome.BROKEN)
    ready.healthy("a-max")
    ready.ask("a")
    assert ready.sent


def test_a_table_without_an_instance_drains_and_forgets_it(ready: Told) -> None:
    working, waiting = ready.ask("a"), ready.ask("a")
    ready.tell(TableReplaced(a_table(a_model("b"))))
    assert (ready.refusal().id, ready.refusal().problem.code) == (waiting, "KI801")
    ready.end(working)
    assert ready.stopped == ["a-max"]
    ready.tell(UnitStopped("a-max"))
    assert [run["profile"] for run in ready.core.health(ready.now)["runtimes"]] == ["b-max"]
    assert ready.tell(UnitSeen("a-max", is_up=False)) == []
    assert not [effect for effect in ready.after(400.0) if "a-max" in str(effect)]


def test_a_model_that_the_table_has_no_more_is_not_tried_again(ready: Told) -> None:
    working = ready.ask("a")
    begun = ready.ask("a")
    ready.tell(Left(begun))
    ready.tell(TableReplaced(a_table(a_model("b"))))
    ready.end(working, Outcome.UNREACHED)
    assert ready.refusal().problem.code == "KI801"


def test_what_is_the_same_in_the_new_table_goes_on(ready: Told) -> None:
    ready.up("a-max")
    working, waiting = ready.ask("a"), ready.ask("a")
    ready.tell(TableReplaced(a_table(a_model("a"), a_model("b"))))
    assert ready.effects == []
    assert ready.core.queue_position(waiting) == 1
    ready.end(working)
    assert ready.sent == [(waiting, "a-max")]


def test_an_operator_starts_what_then_stays_until_it_is_idle(stopped: Told) -> None:
    stopped.tell(StartAsked("a-max"))
    assert stopped.started == ["a-max"]
    stopped.healthy("a-max")
    stopped.after(299.0)
    assert stopped.stopped == []
    stopped.after(2.0)
    assert stopped.stopped == ["a-max"]


def test_an_operator_stops_once_requests_are_done_and_a_request_may_start_it_again(ready: Told) -> None:
    working = ready.ask("a")
    ready.tell(StopAsked("a-max"))
    assert ready.stopped == []
    waiting = ready.ask("a")
    ready.end(working)
    assert ready.stopped == ["a-max"]
    ready.tell(UnitStopped("a-max"))
    assert ready.started == ["a-max"]
    ready.healthy("a-max")
    assert ready.sent == [(waiting, "a-max")]


def test_an_operator_may_think_better_of_it(ready: Told) -> None:
    working = ready.ask("a")
    ready.tell(StopAsked("a-max"))
    ready.tell(StartAsked("a-max"))
    ready.end(working)
    assert ready.stopped == []
    ready.healthy("a-max")
    assert ready.state("a-max") == "healthy"


def test_what_does_not_run_need_not_be_stopped_nor_is_it_started_elsewhere(stopped: Told) -> None:
    assert stopped.tell(StopAsked("a-max")) == []
    told = Told(a_table(a_model("a", an_instance("a-mid"))))
    told.down("a-mid")
    assert told.tell(StartAsked("a-mid")) == []


def test_one_of_another_profile_that_someone_starts_stays_as_long_as_what_that_left(stopped: Told) -> None:
    stopped.tell(CardsStand("mid"))
    stopped.tell(UnitSeen("a-max", is_up=True, pid=9))
    stopped.healthy("a-max")
    stopped.after(290.0)
    assert stopped.stopped == []
    stopped.after(10.0)
    assert stopped.stopped == ["a-max"]
    stopped.tell(UnitStopped("a-max"))
    assert stopped.tell(UnitStopped("a-max")) == []


def test_what_was_taken_back_is_not_told_of_again() -> None:
    told = Told(a_table(a_model("a"), a_model("b")))
    told.up("a-max", "b-max")
    working = told.ask("a", for_s=500.0)
    told.after(0.1)
    told.tell(StopAsked("a-max"))
    told.after(30.1)
    assert told.stopped == ["a-max"]
    other = told.ask("b")
    told.after(1.0)
    assert [(news.change, news.request_id) for news in told.of(Allocated)] == [("created", other)]
    assert told.end(working, Outcome.UNREACHED) == []


def test_who_waits_is_placed_anew_by_another_table() -> None:
    told = Told(a_table(a_model("a"), a_model("b")))
    told.up("a-max", "b-max")
    told.ask()
    waiting = told.ask()
    assert told.core.queue_position(waiting) == 1
    purpose = RoutedPurpose(name="code", candidates=("b",), otherwise=None, is_default=True)
    told.tell(TableReplaced(a_table(a_model("a"), a_model("b"), purposes=(purpose,))))
    assert told.sent == [(waiting, "b-max")]
