"""What others use of the cards: a load that it has failed is tried again."""

from __future__ import annotations

import pytest

from kloros_infra.router.effects import Announce
from kloros_infra.router.events import CardsSeen, UnitFailed, UnitStarted
from tests.unit.router.told import Told, a_model, a_table, an_instance


@pytest.fixture
def starting() -> Told:
    told = Told(a_table(a_model("a", an_instance("a-max", preload=True)), a_model("b", an_instance("b-max", 6000))))
    told.down("b-max")
    told.down("a-max")
    assert told.started == ["a-max"]
    return told


def seen(told: Told, mib: int) -> None:
    told.tell(CardsSeen((("one", mib),)))


def test_a_load_that_others_left_no_room_for_is_tried_again_once_there_is(starting: Told) -> None:
    id = starting.ask("a")
    starting.tell(UnitStarted("a-max"))
    seen(starting, 7000)
    starting.tell(UnitFailed("a-max", "out of memory"))
    refusal = starting.refusal()
    assert (refusal.id, refusal.is_temporary, refusal.problem.code) == (id, True, "KI809")
    assert "beside what others use" in refusal.problem.detail
    assert starting.state("a-max") == "stopped"
    assert len(starting.of(Announce)) == 1
    seen(starting, 6900)
    assert starting.started == []
    seen(starting, 100)
    assert starting.started == ["a-max"], "it is preloaded"


def test_it_may_be_seen_shortly_after_the_failure(starting: Told) -> None:
    starting.tell(UnitFailed("a-max", "out of memory"))
    assert starting.state("a-max") == "failed"
    starting.now += 5.0
    seen(starting, 7000)
    assert starting.state("a-max") == "stopped"
    id = starting.ask("a")
    assert (starting.refusal().id, starting.refusal().is_temporary) == (id, True)


def test_one_that_is_not_preloaded_is_tried_again_for_the_next_request(starting: Told) -> None:
    starting.ask("b")
    assert starting.started == ["b-max"]
    seen(starting, 5000)
    starting.tell(UnitFailed("b-max", "out of memory"))
    seen(starting, 0)
    assert starting.started == []
    starting.ask("b")
    assert starting.started == ["b-max"]


def test_a_load_that_had_room_stays_failed(starting: Told) -> None:
    seen(starting, 5900)
    starting.tell(UnitFailed("a-max", "no such file"))
    assert starting.state("a-max") == "failed"
    starting.now += 11.0
    seen(starting, 7000)
    assert starting.state("a-max") == "failed", "that came long after"
