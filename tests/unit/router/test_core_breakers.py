"""Breakers in the core: who is refused, who waits, who is the probe."""

from __future__ import annotations

import pytest

from kloros_infra.ir.announcements import News
from kloros_infra.router.breaker import BUSY_S, FAILURES_IN_A_ROW
from kloros_infra.router.effects import Announce, Refuse
from kloros_infra.router.events import Began, Left, Outcome, TableReplaced
from tests.unit.router.told import Told, a_host, a_model, a_table, an_instance


def test_a_busy_target_is_left_alone_for_as_long_as_it_says() -> None:
    told = Told(a_table(a_model("a", an_instance("a-mid")), hosts=(a_host("east", "a"),)))
    id = told.ask("a")
    told.end(id, Outcome.BUSY, retry_after_s=3.0)
    assert told.sent == []
    assert told.core.queue_position(id) == 1
    told.after(2.9)
    assert told.sent == []
    told.after(0.2)
    assert told.sent == [(id, "east/a")]
    assert told.of(Announce) == []


def test_a_host_that_still_loads_a_model_is_not_blamed_and_asked_again_soon() -> None:
    told = Told(a_table(a_model("a", an_instance("a-mid")), hosts=(a_host("east", "a"),)))
    ids = [told.ask("a") for _ in range(FAILURES_IN_A_ROW + 1)]
    for id in ids:
        told.end(id, Outcome.LOADING)
    assert (told.sent, told.of(Announce)) == ([], [])
    told.after(BUSY_S)
    assert told.sent == [(id, "east/a") for id in ids]


def opened(told: Told) -> None:
    """Have the breaker of `east/a` open."""
    for _ in range(FAILURES_IN_A_ROW):
        id = told.ask("a")
        told.tell(Began(id))
        told.end(id, Outcome.BROKEN)


@pytest.fixture
def away() -> Told:
    """A model that only another host has, with its breaker open."""
    told = Told(a_table(a_model("a", an_instance("a-mid")), hosts=(a_host("east", "a"),)))
    opened(told)
    return told


def test_an_open_breaker_refuses_and_says_when_to_come_again(away: Told) -> None:
    assert away.of(Announce) == [Announce(News.REMOTE_UNAVAILABLE, "east/a")]
    assert away.core.health(0.0)["remote"][0]["breaker"] == "open"
    away.ask("a")
    refusal = away.refusal()
    assert refusal.is_temporary
    assert refusal.retry_after_s is not None
    assert 4.0 <= refusal.retry_after_s <= 6.0
    assert "too often" in refusal.problem.detail


def test_half_open_one_probe_goes_the_rest_wait_and_its_success_closes(away: Told) -> None:
    away.after(6.1)
    probe, waiting = away.ask("a"), away.ask("a")
    assert away.core.queue_position(waiting) == 1
    away.end(probe)
    assert away.sent == [(waiting, "east/a")]
    assert away.of(Announce) == [Announce(News.REMOTE_CONNECTED, "east/a")]


def test_a_probe_that_fails_opens_for_longer_and_refuses_those_that_wait(away: Told) -> None:
    away.after(6.1)
    probe, waiting = away.ask("a"), away.ask("a")
    away.end(probe, Outcome.UNREACHED)
    assert {refusal.id for refusal in away.of(Refuse)} == {probe, waiting}
    away.after(7.9)
    away.ask("a")
    assert away.refusal().is_temporary
    away.after(12.1)
    away.ask("a")
    assert away.sent


def test_a_probe_that_is_left_makes_the_next_one_the_probe(away: Told) -> None:
    away.after(6.1)
    probe, waiting = away.ask("a"), away.ask("a")
    away.tell(Left(probe))
    assert away.sent == [(waiting, "east/a")]


def test_a_probe_whose_deadline_was_short_makes_the_next_one_the_probe(away: Told) -> None:
    away.after(6.1)
    probe, waiting = away.ask("a", for_s=0.5), away.ask("a")
    away.now += 0.5
    away.end(probe, Outcome.SILENT)
    assert away.sent == [(waiting, "east/a")]


def test_the_end_of_an_older_request_tells_nothing_of_a_probe() -> None:
    told = Told(a_table(a_model("a", an_instance("a-mid")), hosts=(a_host("east", "a"),)))
    old = [told.ask("a", for_s=900.0) for _ in range(2)]
    opened(told)
    told.after(6.1)
    probe = told.ask("a")
    told.end(old[0])
    told.tell(Began(old[1]))
    told.end(old[1], Outcome.BROKEN)
    assert told.core.health(told.now)["remote"][0]["breaker"] == "half_open"
    told.end(probe)
    assert told.core.health(told.now)["remote"][0]["breaker"] == "closed"


def test_the_time_of_a_breaker_whose_target_is_gone_passes_unnoticed(away: Told) -> None:
    away.tell(TableReplaced(a_table(a_model("a", an_instance("a-mid")))))
    away.after(6.1)
    assert (away.sent, away.of(Refuse)) == ([], [])


def test_an_instance_that_fails_too_often_and_recovers_is_told_of_as_one() -> None:
    told = Told(a_table(a_model("a")))
    told.up("a-max")
    news: list[Announce] = []
    for _ in range(FAILURES_IN_A_ROW):
        id = told.ask("a")
        told.tell(Began(id))
        told.end(id, Outcome.BROKEN)
        news += told.of(Announce)
        told.healthy("a-max")
    assert news == [Announce(News.INSTANCE_DOWN, "a-max", "it has failed too often")]
    told.after(6.1)
    told.healthy("a-max")
    told.end(told.ask("a"))
    assert told.of(Announce) == [Announce(News.INSTANCE_UP, "a-max")]
