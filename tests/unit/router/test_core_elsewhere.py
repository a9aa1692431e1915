"""What others do with the units: stop them, restart them by another definition, or keep them from stopping."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.ir.announcements import News
from kloros_infra.router.definitions import TABLE_LAG_S
from kloros_infra.router.effects import Allocated, Announce, Poll, RestartUnit, StartUnit, StopUnit
from kloros_infra.router.events import (
    CardsStand,
    Doubted,
    Left,
    Outcome,
    Polled,
    StartAsked,
    StopAsked,
    TableReplaced,
    Ticked,
    UnitFailed,
    UnitSeen,
    UnitStarted,
    UnitStopped,
    Verdict,
)
from kloros_infra.router.fleet import ELSEWHERE_PAUSE_S
from tests.unit.router.told import Told, a_model, a_table, an_instance


@pytest.fixture
def ready() -> Told:
    """One model, ready."""
    told = Told(a_table(a_model("a", an_instance("a-max", preload=True))))
    told.up("a-max")
    return told


@pytest.fixture
def pair() -> Told:
    """Two models, of which only one has room; the first is ready."""
    told = Told(a_table(a_model("a", an_instance("a-max", 6000)), a_model("b", an_instance("b-max", 6000))))
    told.down("b-max")
    told.up("a-max")
    return told


def orders(told: Told) -> list[object]:
    """Give what the service manager was told to do."""
    return [effect for effect in told.effects if isinstance(effect, (StartUnit, StopUnit, RestartUnit))]


def fail_polls(told: Told, count: int = 3) -> None:
    """Have an instance fail polls in a row."""
    for _ in range(count):
        told.tell(Doubted("a-max"))
        told.tell(Polled("a-max", Verdict.FAILING))


def leaving(pid: int = 100) -> UnitSeen:
    return UnitSeen("a-max", is_up=True, pid=pid, is_stopping=True)


# Stopped by somebody else.


@pytest.mark.parametrize("has_left_slowly", [True, False])
def test_what_somebody_else_stops_stays_so_until_a_request_wants_it(ready: Told, has_left_slowly: bool) -> None:
    if has_left_slowly:
        ready.tell(leaving())
        assert ready.state("a-max") == "stopping"
        assert orders(ready) == []
    ready.tell(UnitSeen("a-max", is_up=False))
    assert (ready.state("a-max"), orders(ready)) == ("stopped", [])
    ready.after(600.0)
    assert orders(ready) == []
    ready.ask("a")
    assert ready.started == ["a-max"]


def test_what_stops_finishes_what_it_has_and_gets_no_more(ready: Told) -> None:
    working = ready.ask("a")
    ready.after(0.1)
    ready.tell(leaving())
    assert ready.of(Allocated) == []
    ready.ask("a")
    assert ready.sent == []
    ready.after(20.0)
    assert orders(ready) == []
    assert [(news.change, news.request_id) for news in _ended(ready, working)] == [("released", working)]


def _ended(told: Told, id: str) -> list[Allocated]:
    told.end(id)
    return told.of(Allocated)


def test_one_that_loads_and_is_stopped_is_not_wanted_any_more() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", preload=True))))
    told.tell(UnitSeen("a-max", is_up=True, pid=100))
    told.tell(leaving())
    told.tell(UnitSeen("a-max", is_up=False))
    told.after(600.0)
    assert orders(told) == []


def test_for_an_operator_it_starts_at_once(ready: Told) -> None:
    ready.tell(UnitSeen("a-max", is_up=False))
    ready.tell(StartAsked("a-max"))
    assert ready.started == ["a-max"]


def test_one_that_was_to_be_restarted_and_is_found_stopped_is_not_started(ready: Told) -> None:
    fail_polls(ready)
    assert RestartUnit("a-max") in ready.effects
    ready.tell(UnitStopped("a-max"))
    ready.after(600.0)
    assert orders(ready) == []
    assert ready.state("a-max") == "stopped"


def test_one_that_was_to_be_restarted_and_is_found_stopping_is_let_go(ready: Told) -> None:
    fail_polls(ready)
    ready.tell(leaving())
    assert ready.state("a-max") == "stopping"
    ready.tell(UnitFailed("a-max", "killed"))  # it has crashed on its way
    assert ready.state("a-max") == "stopped"
    ready.after(600.0)
    assert ready.started == []


def test_what_ends_by_itself_may_look_like_stopping_first_and_is_started_again(ready: Told) -> None:
    ready.tell(leaving())
    ready.tell(leaving())
    ready.tell(UnitFailed("a-max", "killed"))
    assert ready.of(Announce)[0] == Announce(News.INSTANCE_DOWN, "a-max", "it has ended by itself")
    ready.after(1.1)
    assert ready.started == ["a-max"]


def test_one_that_was_to_stop_for_somebody_and_did_not_serves_again(ready: Told) -> None:
    ready.tell(leaving())
    ready.tell(UnitSeen("a-max", is_up=True, pid=100))
    ready.healthy("a-max")
    assert ready.state("a-max") == "healthy"


def test_requests_wait_a_moment_for_whoever_stopped_it_to_start_it(ready: Told) -> None:
    ready.tell(UnitSeen("a-max", is_up=False))
    id = ready.ask("a")
    assert ready.started == []
    ready.tell(UnitSeen("a-max", is_up=True, pid=101))
    ready.healthy("a-max")
    assert ready.sent == [(id, "a-max")]
    ready.tell(UnitSeen("a-max", is_up=False))
    ready.ask("a")
    ready.after(ELSEWHERE_PAUSE_S)
    assert ready.started == ["a-max"]


# Another definition.


def otherwise(**changes: Any) -> TableReplaced:
    return TableReplaced(a_table(a_model("a", an_instance("a-max", definition="2", **changes))))


@pytest.mark.parametrize("seen_between", [True, False])
def test_apply_restarts_and_the_new_process_serves_by_the_new_definition(ready: Told, seen_between: bool) -> None:
    ready.now += 5.0
    assert ready.tell(otherwise(port=9999)) == []
    if seen_between:
        assert ready.tell(leaving()) == []
        ready.tell(UnitSeen("a-max", is_up=False))
    ready.tell(UnitSeen("a-max", is_up=True, pid=101))
    assert orders(ready) == []
    (poll,) = [effect for effect in ready.healthy("a-max") if isinstance(effect, Poll)]
    assert poll.target.port == 9999
    ready.ask("a")
    assert ready.effects[0].target.port == 9999  # type: ignore[union-attr]  # a Send


def test_a_process_that_is_newer_than_the_table_is_of_the_table(ready: Told) -> None:
    ready.now += 5.0
    ready.tell(UnitSeen("a-max", is_up=True, pid=101))
    ready.now += TABLE_LAG_S / 2
    ready.tell(otherwise(port=9999))
    (poll,) = [effect for effect in ready.healthy("a-max") if isinstance(effect, Poll)]
    assert poll.target.port == 9999


def test_one_that_loads_may_be_replaced_by_another(ready: Told) -> None:
    ready.now += 5.0
    ready.tell(UnitSeen("a-max", is_up=True, pid=101))
    ready.now += 5.0
    ready.tell(otherwise(port=9999))
    ready.tell(UnitSeen("a-max", is_up=True, pid=102))
    (poll,) = [effect for effect in ready.healthy("a-max") if isinstance(effect, Poll)]
    assert poll.target.port == 9999


def test_a_restart_of_our_own_is_one_by_the_new_definition(ready: Told) -> None:
    ready.now += 5.0
    ready.tell(otherwise(port=9999))
    fail_polls(ready)
    assert RestartUnit("a-max") in ready.effects
    ready.tell(UnitStarted("a-max"))
    (poll,) = [effect for effect in ready.healthy("a-max") if isinstance(effect, Poll)]
    assert poll.target.port == 9999


def test_what_the_process_has_no_part_in_holds_at_once(ready: Told) -> None:
    ready.now += 5.0
    ready.tell(otherwise(idle_timeout_s=5.0))
    ready.after(10.0)
    assert ready.stopped == ["a-max"]


def test_one_of_which_nothing_was_known_is_the_process_that_was_there() -> None:
    told = Told(a_table(a_model("a")))
    told.tell(otherwise(port=9999))
    told.tell(UnitSeen("a-max", is_up=True, pid=100))
    (poll,) = [effect for effect in told.healthy("a-max") if isinstance(effect, Poll)]
    assert poll.target.port == 8601


# A stop that fails.


def test_what_did_not_stop_holds_its_memory_until_it_is_seen_to_be_down(pair: Told) -> None:
    pair.ask("b")
    assert pair.stopped == ["a-max"]
    pair.tell(UnitFailed("a-max", "it did not stop within 60 s"))
    assert (pair.state("a-max"), orders(pair)) == ("stopping", [])
    pair.tell(UnitSeen("a-max", is_up=False))
    assert pair.started == ["b-max"]


def test_what_did_not_stop_is_told_to_again_less_and_less_often(pair: Told) -> None:
    pair.ask("b", for_s=500.0)
    for pause_s in (1.0, 2.0, 4.0):
        assert pair.stopped == ["a-max"]
        pair.tell(UnitFailed("a-max", "not allowed"))
        pair.tell(UnitSeen("a-max", is_up=True, pid=100))
        assert pair.state("a-max") == "unhealthy"
        pair.after(pause_s - 0.1)
        assert pair.stopped == []
        pair.after(0.2)
    assert pair.started == []


def test_a_drain_that_did_not_end_in_a_stop_is_ended_later(ready: Told) -> None:
    ready.tell(CardsStand("mid", ineligible=("one",)))
    assert ready.stopped == ["a-max"]
    ready.tell(UnitFailed("a-max", "not allowed"))
    ready.tell(UnitSeen("a-max", is_up=True, pid=100))
    assert ready.stopped == []
    ready.after(1.1)
    assert ready.stopped == ["a-max"]


def test_one_given_up_that_did_not_stop_may_still_become_ready_and_crash_later() -> None:
    told = Told(a_table(a_model("a")))
    told.down("a-max")
    told.ask("a", for_s=500.0)
    told.tell(UnitStarted("a-max"))
    told.after(70.0)
    assert told.stopped == ["a-max"]
    told.tell(UnitFailed("a-max", "not allowed"))
    told.tell(UnitSeen("a-max", is_up=True, pid=100))
    told.healthy("a-max")
    told.tell(UnitFailed("a-max", "killed"))
    assert told.state("a-max") == "stopped"


def test_idle_it_is_told_to_stop_again_later() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", idle_timeout_s=0.2))))
    told.up("a-max")
    told.after(0.3)
    assert told.stopped == ["a-max"]
    told.tell(UnitFailed("a-max", "not allowed"))
    told.tell(UnitSeen("a-max", is_up=True, pid=100))
    told.healthy("a-max")
    told.after(0.5)
    assert told.stopped == []
    told.after(1.0)
    assert told.stopped == ["a-max"]


# The service manager's own restarts.


def test_what_did_not_load_is_not_left_to_the_service_manager() -> None:
    told = Told(a_table(a_model("a")))
    told.down("a-max")
    told.ask("a")
    told.tell(UnitStarted("a-max"))
    told.tell(UnitFailed("a-max", "out of memory"))
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    assert told.state("a-max") == "failed"
    assert told.tell(UnitFailed("a-max", "it did not stop")) == []


def test_nor_is_what_has_crashed(ready: Told) -> None:
    ready.tell(UnitFailed("a-max", "killed"))
    assert ready.stopped == ["a-max"]


# Idleness.


def test_one_that_was_in_doubt_when_its_last_request_ended_still_becomes_idle() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", idle_timeout_s=5.0))))
    told.up("a-max")
    id = told.ask("a")
    told.after(6.0)
    told.tell(Doubted("a-max"))
    told.tell(Polled("a-max", Verdict.FAILING))
    told.tell(Left(id))
    told.healthy("a-max")
    told.after(6.0)
    assert told.stopped == ["a-max"]


def test_what_is_waited_for_is_looked_at_again() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", idle_timeout_s=5.0))))
    told.up("a-max")
    id = told.ask("a", for_s=500.0)
    told.after(20.0)
    assert told.stopped == []
    told.end(id, Outcome.SERVED)
    told.after(5.1)
    assert told.stopped == ["a-max"]


def test_a_start_is_not_ended_by_what_was_noted_of_the_run_before() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", load_s=30.0))))
    told.up("a-max")
    told.end(told.ask("a"))
    told.after(280.0)
    told.tell(StopAsked("a-max"))
    told.tell(UnitStopped("a-max"))
    told.after(10.0)
    told.tell(StartAsked("a-max"))
    told.tell(UnitStarted("a-max"))
    told.after(15.0)
    assert told.stopped == []
    told.healthy("a-max")
    told.after(299.0)
    assert told.stopped == []
    told.after(2.0)
    assert told.stopped == ["a-max"]
    assert told.tell(Ticked()) == []
