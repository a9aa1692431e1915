"""Cards that close and open again: nothing runs on them, whoever wants it to, and then it is tried again."""

from __future__ import annotations

import pytest

from kloros_infra.ir.routing import RoutedShare, Upstream
from kloros_infra.router.effects import Refuse
from kloros_infra.router.events import (
    CardsStand,
    ClosedCard,
    StartAsked,
    StopAsked,
    TableReplaced,
    UnitFailed,
    UnitSeen,
    UnitStarted,
    UnitStopped,
)
from tests.unit.router.told import Told, a_host, a_model, a_table, an_instance

GAMING = ClosedCard("one", "locked out until 22:00: gaming", opens_at=500.0)
CLOSED = CardsStand("max", (GAMING,), ("one",))
OPEN = CardsStand("max")


def on_two(name: str, **changes: object) -> Upstream:
    """Build an instance that takes memory of card `two` alone."""
    return an_instance(name).model_copy(update={"shares": (RoutedShare(card="two", mib=1000),), **changes})


@pytest.fixture
def ready() -> Told:
    """One model, ready."""
    told = Told(a_table(a_model("a")))
    told.up("a-max")
    return told


def test_what_runs_on_a_card_that_closes_stops_and_says_why(ready: Told) -> None:
    ready.tell(CLOSED)
    assert ready.stopped == ["a-max"]
    ready.tell(UnitStopped("a-max"))
    (view,) = ready.core.overview(ready.now).instances
    assert (view.reason, view.stopped_for, view.is_barred) == (
        "its card one is locked out until 22:00: gaming",
        "card",
        True,
    )
    (run,) = ready.core.health(ready.now)["runtimes"]
    assert run["reason"] == view.reason


def test_it_finishes_what_it_has_within_its_time(ready: Told) -> None:
    quick, slow = ready.ask("a"), ready.ask("a")
    ready.end(quick)
    assert ready.sent == [(slow, "a-max")]
    changes = ready.core.changes
    ready.tell(CLOSED)
    assert (ready.stopped, ready.state("a-max")) == ([], "draining")
    assert ready.core.changes > changes
    ready.after(29.0)
    assert ready.stopped == []
    ready.after(1.1)
    assert ready.stopped == ["a-max"]


def test_a_request_for_it_is_refused_with_the_reason_and_when_to_come_again(ready: Told) -> None:
    working, waiting = ready.ask("a"), ready.ask("a")
    ready.now = 100.0
    ready.tell(CLOSED)
    (refusal,) = ready.of(Refuse)
    assert (refusal.id, refusal.problem.code, refusal.is_temporary) == (waiting, "KI876", True)
    assert refusal.problem.detail == "'a-max' cannot run now: its card one is locked out until 22:00: gaming."
    assert refusal.retry_after_s == 400.0
    ready.end(working)
    ready.ask("a")
    assert ready.refusal().problem.code == "KI876"
    assert ready.started == []


def test_where_nobody_knows_when_it_opens_asking_again_may_be_worth_while_in_a_minute(ready: Told) -> None:
    ready.tell(CardsStand("max", (ClosedCard("one", "absent"),), ("one",)))
    ready.ask("a")
    assert (ready.refusal().retry_after_s, ready.refusal().problem.code) == (60.0, "KI876")


def test_the_next_candidate_serves_meanwhile() -> None:
    told = Told(a_table(a_model("a"), a_model("b", on_two("b-max"))))
    told.up("a-max", "b-max")
    told.tell(CLOSED)
    id = told.ask()
    assert told.sent == [(id, "b-max")]


def test_where_others_cannot_serve_for_other_reasons_all_are_said() -> None:
    told = Told(a_table(a_model("a"), a_model("b", on_two("b-max"))))
    told.up("a-max")
    told.down("b-max")
    told.ask("b")
    told.tell(UnitFailed("b-max", "no such file"))
    told.tell(CLOSED)
    told.ask()
    problem = told.refusal().problem
    assert problem.code == "KI809"
    assert "'a-max' (cannot run, as its card one is locked out" in problem.detail
    assert "no such file" in problem.detail


def test_a_host_serves_meanwhile_and_nothing_starts_behind_it() -> None:
    told = Told(a_table(a_model("a"), hosts=(a_host("east", "a"),)))
    told.up("a-max")
    told.tell(CLOSED)
    told.tell(UnitStopped("a-max"))
    id = told.ask("a")
    assert told.sent == [(id, "east/a")]
    assert told.started == []


def test_whoever_wants_it_it_does_not_start(ready: Told) -> None:
    ready.tell(CLOSED)
    ready.tell(UnitStopped("a-max"))
    ready.tell(StartAsked("a-max"))
    assert ready.started == []
    ready.tell(UnitSeen("a-max", is_up=True, pid=9))
    assert ready.stopped == ["a-max"]


def test_what_is_preloaded_starts_again_when_its_card_opens() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", preload=True)), a_model("b")))
    told.up("a-max", "b-max")
    told.tell(CLOSED)
    told.tell(UnitStopped("a-max"))
    told.tell(UnitStopped("b-max"))
    assert told.started == []
    told.tell(OPEN)
    assert told.started == ["a-max"], "what nobody asks for need not run"


def test_what_an_operator_has_stopped_stays_so_when_its_card_opens() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", preload=True))))
    told.up("a-max")
    told.tell(StopAsked("a-max"))
    told.tell(UnitStopped("a-max"))
    told.tell(CLOSED)
    told.tell(OPEN)
    assert told.started == []


def test_what_still_drains_when_its_card_opens_serves_on(ready: Told) -> None:
    working = ready.ask("a")
    ready.tell(CLOSED)
    ready.tell(OPEN)
    next_one = ready.ask("a")
    ready.healthy("a-max")
    ready.end(working)
    assert ready.sent == [(next_one, "a-max")]
    assert ready.stopped == []


def test_what_failed_while_its_card_went_is_tried_again_when_it_is_back() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", preload=True)), a_model("b", on_two("b-max", preload=True))))
    assert told.down("a-max", "b-max")
    for name in ("a-max", "b-max"):
        told.tell(UnitFailed(name, "no CUDA device"))
    told.tell(CLOSED)
    assert told.state("a-max") == "failed"
    told.tell(OPEN)
    assert (told.started, told.state("b-max")) == (["a-max"], "failed")


def test_an_instance_of_two_closed_cards_waits_for_both() -> None:
    shares = (RoutedShare(card="one", mib=1000), RoutedShare(card="two", mib=1000))
    told = Told(a_table(a_model("a", an_instance("a-max", shares=shares))))
    told.up("a-max")
    later = ClosedCard("two", "locked out", opens_at=700.0)
    told.tell(CardsStand("max", (GAMING, later), ("one", "two")))
    told.ask("a")
    words = "its card one is locked out until 22:00: gaming and its card two is locked out"
    assert words in told.refusal().problem.detail
    assert told.refusal().retry_after_s == pytest.approx(700.0 - told.now)
    told.tell(CardsStand("max", (GAMING, later._replace(opens_at=None)), ("one", "two")))
    told.ask("a")
    assert told.refusal().retry_after_s == 60.0
    told.tell(CardsStand("max", (later,), ("two",)))
    told.tell(UnitStopped("a-max"))
    told.ask("a")
    assert (told.refusal().problem.code, told.started) == ("KI876", [])


def test_an_active_instance_stays_on_a_card_that_is_only_used_by_others(ready: Told) -> None:
    ready.tell(CardsStand("max", (), ("one",)))
    assert ready.stopped == []
    id = ready.ask("a")
    assert ready.sent == [(id, "a-max")]


def test_a_table_that_moves_an_instance_to_another_card_frees_it(ready: Told) -> None:
    ready.tell(CLOSED)
    ready.tell(UnitStopped("a-max"))
    ready.tell(TableReplaced(a_table(a_model("a", on_two("a-max", definition="2")))))
    id = ready.ask("a")
    assert ready.started == ["a-max"]
    ready.tell(UnitStarted("a-max"))
    ready.healthy("a-max")
    assert ready.sent == [(id, "a-max")]
