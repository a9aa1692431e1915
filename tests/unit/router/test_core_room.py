"""Room for instances: new before old where both fit, else turns; the busy and the pinned are never stopped."""

from __future__ import annotations

import pytest

from kloros_infra.ir.requests import Priority
from kloros_infra.ir.routing import RoutedPurpose
from kloros_infra.router.effects import Allocated, AllocationChange, Refuse
from kloros_infra.router.events import (
    CardsSeen,
    Left,
    Outcome,
    StartAsked,
    StopAsked,
    UnitFailed,
    UnitStarted,
    UnitStopped,
)
from kloros_infra.router.lease import ADOPTED_ACTIVE_S, Lease
from tests.unit.router.told import Told, a_host, a_model, a_table, an_instance


def a_pair(a_mib: int = 6000, b_mib: int = 6000, *, group: str | None = None, pinned: bool = False) -> Told:
    """Two models, the first ready, the second stopped."""
    first = a_model("a", an_instance("a-max", a_mib, is_pinned=pinned), group=group)
    told = Told(a_table(first, a_model("b", an_instance("b-max", b_mib), group=group)))
    told.down("b-max")
    told.up("a-max")
    return told


def test_where_both_fit_nothing_stops() -> None:
    told = a_pair(4000, 4000)
    told.ask("b")
    assert (told.started, told.stopped) == (["b-max"], [])


def test_idle_a_makes_way_for_b_and_b_starts_once_a_is_gone() -> None:
    told = a_pair()
    id = told.ask("b")
    assert (told.started, told.stopped) == ([], ["a-max"])
    told.tell(UnitStopped("a-max"))
    assert told.started == ["b-max"]
    told.healthy("b-max")
    assert told.sent == [(id, "b-max")]


def test_models_of_a_group_take_turns_though_both_fit() -> None:
    told = a_pair(1000, 1000, group="large")
    told.ask("b")
    assert told.stopped == ["a-max"]


def test_busy_a_finishes_before_b_has_its_turn() -> None:
    told = a_pair()
    working = told.ask("a")
    waiting = told.ask("b")
    assert (told.started, told.stopped) == ([], [])
    told.after(10.0)
    assert told.stopped == []
    told.end(working)
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    told.healthy("b-max")
    assert told.sent == [(waiting, "b-max")]


def test_a_serves_on_for_as_long_as_the_load_would_take_and_then_gives_way() -> None:
    told = a_pair()
    working = told.ask("a")
    told.ask("b")
    told.now += 1.5
    next_one = told.ask("a")
    told.end(working)
    assert told.sent == [(next_one, "a-max")]
    told.after(0.6)
    last = told.ask("a")
    told.end(next_one)
    assert told.sent == []
    assert told.stopped == ["a-max"]
    assert told.core.queue_position(last) == 1


def test_voice_waits_for_nobodys_turn() -> None:
    told = a_pair()
    working = told.ask("a")
    told.ask("b", priority=Priority.VOICE)
    told.ask("a")
    told.end(working)
    assert (told.sent, told.stopped) == ([], ["a-max"])


def test_when_nobody_wants_the_turn_any_more_it_is_not_taken() -> None:
    told = a_pair()
    working = told.ask("a", for_s=100.0)
    impatient = told.ask("b")
    told.after(3.0)
    waiting = told.ask("a")
    assert told.sent == []
    told.tell(Left(impatient))
    told.end(working)
    assert told.sent == [(waiting, "a-max")]


def test_each_has_its_turn() -> None:
    told = a_pair()
    working = told.ask("a")
    told.ask("b")
    told.after(3.0)
    back = told.ask("a", for_s=100.0)
    told.end(working)
    told.tell(UnitStopped("a-max"))
    told.healthy("b-max")
    ((sent, _),) = told.sent
    more = told.ask("b")
    told.after(1.9)
    told.end(sent)
    assert told.sent == [(more, "b-max")]
    told.after(0.2)
    told.end(more)
    assert told.stopped == ["b-max"]
    told.tell(UnitStopped("b-max"))
    told.healthy("a-max")
    assert told.sent == [(back, "a-max")]


def test_the_pinned_is_never_stopped_and_who_needs_its_room_is_told_so() -> None:
    told = a_pair(pinned=True)
    told.ask("b")
    refusal = told.refusal()
    assert refusal.is_temporary
    assert "pinned" in refusal.problem.detail
    told.ask("b")
    assert "pinned" in told.refusal().problem.detail
    assert told.core.health(told.now)["runtimes"][1]["reason"] == "the memory that it needs is held by pinned instances"


def test_a_pinned_one_that_ends_makes_room() -> None:
    told = a_pair(pinned=True)
    told.ask("b")
    told.tell(StopAsked("a-max"))
    told.tell(UnitStopped("a-max"))
    told.ask("b")
    assert told.started == ["b-max"]


def test_what_others_use_of_the_card_counts() -> None:
    told = a_pair(4000, 4000)
    told.tell(CardsSeen((("one", 7000),)))
    told.ask("b")
    refusal = told.refusal()
    assert refusal.is_temporary
    assert "beside what others use" in refusal.problem.detail
    told.tell(CardsSeen((("one", 3000),)))
    told.ask("b")
    assert told.stopped == ["a-max"]


def test_room_that_is_being_made_is_not_given_to_another() -> None:
    table = a_table(a_model("a"), a_model("b", an_instance("b-max", 8000)), a_model("c", an_instance("c-max", 3000)))
    told = Told(table)
    told.down("b-max", "c-max")
    told.up("a-max")
    told.ask("b")
    assert told.stopped == ["a-max"]
    told.ask("c")
    assert told.started == []
    told.tell(UnitStopped("a-max"))
    assert told.started == ["b-max"]


def test_the_more_urgent_has_the_room() -> None:
    table = a_table(a_model("a"), a_model("b", an_instance("b-max", 8000)), a_model("c", an_instance("c-max", 8000)))
    told = Told(table)
    told.down("b-max", "c-max")
    told.up("a-max")
    told.ask("b")
    told.ask("c", priority=Priority.VOICE)
    told.tell(UnitStopped("a-max"))
    assert told.started == ["c-max"]


def test_two_that_wait_for_the_same_busy_one_are_started_one_after_the_other() -> None:
    table = a_table(a_model("a"), a_model("b", an_instance("b-max", 8000)), a_model("c", an_instance("c-max", 8000)))
    told = Told(table)
    told.down("b-max", "c-max")
    told.up("a-max")
    working = told.ask("a")
    told.ask("b")
    told.ask("c")
    told.after(3.0)
    told.end(working)
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    assert told.started == ["b-max"]


def test_one_that_loads_for_those_that_wait_is_not_stopped_for_another() -> None:
    told = a_pair()
    told.tell(UnitFailed("a-max", "killed"))
    told.after(1.1)
    told.tell(UnitStarted("a-max"))
    told.ask("a")
    told.ask("b")
    assert told.stopped == []
    told.after(5.0)
    assert told.stopped == []
    told.healthy("a-max")
    assert told.sent


def test_one_that_loads_for_nobody_is() -> None:
    told = a_pair()
    told.tell(UnitFailed("a-max", "killed"))
    told.after(1.1)
    told.ask("b")
    assert told.stopped == ["a-max"]


def test_a_crashed_one_is_not_started_again_where_another_would_have_to_stop() -> None:
    told = a_pair()
    told.tell(UnitFailed("a-max", "killed"))
    told.ask("b")
    assert told.started == ["b-max"]
    told.after(5.0)
    assert told.started == []


def test_an_operators_start_makes_room_like_a_request() -> None:
    told = a_pair()
    told.tell(StartAsked("b-max"))
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    assert told.started == ["b-max"]
    told.tell(UnitFailed("b-max", "no"))
    told.after(10.0)
    assert told.started == []


def test_an_operators_start_where_there_is_never_room_waits_for_some() -> None:
    told = a_pair(4000, 4000)
    told.tell(CardsSeen((("one", 8000),)))
    told.tell(StartAsked("b-max"))
    assert told.started == []
    told.tell(CardsSeen(()))
    assert told.started == ["b-max"]


def test_of_a_model_that_another_host_has_nobody_waits_for_room_here() -> None:
    models = a_model("a", an_instance("a-max", 6000)), a_model("b", an_instance("b-max", 6000))
    told = Told(a_table(*models, hosts=(a_host("east", "b"),)))
    told.down("b-max")
    told.up("a-max")
    id = told.ask("b")
    assert (told.sent, told.stopped) == ([(id, "east/b")], [])


@pytest.mark.parametrize(("priority", "expected"), [(90, ["b-max"]), (10, [])])
def test_while_another_host_serves_what_comes_before_it_is_started(priority: int, expected: list[str]) -> None:
    told = Told(a_table(a_model("b"), hosts=(a_host("east", "b", priority=priority),)))
    told.down("b-max")
    id = told.ask("b", session="s")
    assert told.sent == [(id, "east/b")]
    assert told.started == expected


def test_what_was_lent_before_a_restart_is_not_stopped_for_another_for_a_moment() -> None:
    lease = Lease("alloc_old", "req_old", "a", "max", "a-max", -10.0, 600.0)
    table = a_table(a_model("a", an_instance("a-max", 6000)), a_model("b", an_instance("b-max", 6000)))
    told = Told(table, leases=[lease])
    told.down("b-max")
    told.up("a-max")
    told.ask("b")
    assert told.stopped == []
    told.after(ADOPTED_ACTIVE_S - told.now - 0.1)
    assert told.stopped == []
    told.after(0.2)
    assert told.stopped == ["a-max"]
    told.tell(UnitStopped("a-max"))
    assert [news.change for news in told.of(Allocated)] == [AllocationChange.EVICTED]


@pytest.mark.parametrize("outcome", [Outcome.UNREACHED, Outcome.SILENT])
def test_where_the_first_choice_has_no_room_the_next_serves(outcome: Outcome) -> None:
    both = RoutedPurpose(name="code", candidates=("b", "a"), otherwise=None, is_default=True)
    first = a_model("a", an_instance("a-max", 6000, is_pinned=True))
    told = Told(a_table(first, a_model("b", an_instance("b-max", 6000)), purposes=(both,)))
    told.down("b-max")
    told.up("a-max")
    id = told.ask()
    assert told.of(Refuse) == []
    assert told.sent == [(id, "a-max")]
    told.end(id, outcome)
    told.healthy("a-max")
    assert told.sent == [(id, "a-max")]


def test_room_that_is_made_for_one_is_kept_from_another_that_would_fit_before() -> None:
    table = a_table(
        a_model("a", an_instance("a-max", 6000)),
        a_model("b", an_instance("b-max", 8000)),
        a_model("c", an_instance("c-max", 3000)),
    )
    told = Told(table)
    told.down("b-max", "c-max")
    told.up("a-max")
    told.tell(CardsSeen((("one", 10_000),)))
    told.tell(StartAsked("b-max"))
    told.tell(StartAsked("c-max"))
    told.tell(CardsSeen(()))
    assert (told.stopped, told.started) == (["a-max"], [])
    told.tell(UnitStopped("a-max"))
    assert told.started == ["b-max"]
