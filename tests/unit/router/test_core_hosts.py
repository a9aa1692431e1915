"""Remote hosts: polled, switched, away and back, and never given more than their share."""

from __future__ import annotations

import pytest

from kloros_infra.ir.announcements import News
from kloros_infra.router.board import REMOTE_LIMIT
from kloros_infra.router.effects import Announce, Poll, Refuse, Send
from kloros_infra.router.events import Doubted, Left, Outcome, Polled, TableReplaced, Toggled, Verdict
from kloros_infra.router.query import Query
from kloros_infra.router.select import Chosen
from tests.unit.router.told import Told, a_host, a_model, a_table, an_instance

AWAY = a_model("a", an_instance("a-mid"))


@pytest.fixture
def told() -> Told:
    """A model that only another host has."""
    return Told(a_table(AWAY, hosts=(a_host("east", "a"),)))


def test_a_host_is_asked_as_it_is_reached(told: Told) -> None:
    told.after(0.0)
    (poll,) = [effect for effect in told.of(Poll) if effect.target.name == "east"]
    assert (poll.path, poll.timeout_s) == ("/v1/models", 1.0)
    target = poll.target
    assert (target.address, target.port, target.is_tls, target.credential) == ("10.0.0.9", 8080, True, "east-key")
    assert not target.is_local


def test_a_request_goes_there_under_the_name_that_it_has_there(told: Told) -> None:
    told.ask("a")
    (send,) = told.of(Send)
    assert (send.target.name, send.target.asked_as) == ("east/a", "a-there")


def test_it_gets_eight_requests_at_a_time(told: Told) -> None:
    ids = [told.ask("a") for _ in range(REMOTE_LIMIT + 1)]
    assert told.core.queue_position(ids[-1]) == 1
    told.tell(Left(ids[0]))
    assert told.sent == [(ids[-1], "east/a")]


def test_after_as_many_failures_as_it_may_have_it_gets_nothing_until_it_answers(told: Told) -> None:
    told.healthy("east")
    told.healthy("east", Verdict.FAILING)
    assert told.of(Announce) == []
    told.healthy("east", Verdict.FAILING)
    assert told.of(Announce) == [Announce(News.REMOTE_UNAVAILABLE, "east")]
    told.ask("a")
    assert told.refusal().is_temporary
    assert "away" in told.refusal().problem.detail
    assert told.core.health(told.now)["remote"][0]["status"] == "unhealthy"
    before = told.now
    told.healthy("east", Verdict.FAILING)
    assert told.now - before <= 5.0
    told.healthy("east", Verdict.LOADING)
    assert told.of(Announce) == [Announce(News.REMOTE_CONNECTED, "east")]
    told.ask("a")
    assert told.sent


def test_a_host_that_has_never_answered_gets_nothing_after_its_first_failure(told: Told) -> None:
    told.healthy("east", Verdict.FAILING)
    assert told.of(Announce) == []  # how it is found at first is no news
    told.ask("a")
    assert told.refusal().is_temporary
    told.healthy("east")
    assert told.of(Announce) == [Announce(News.REMOTE_CONNECTED, "east")]


def test_those_that_wait_for_it_are_refused_when_it_goes_away(told: Told) -> None:
    told.healthy("east")
    ids = [told.ask("a") for _ in range(REMOTE_LIMIT + 1)]
    told.healthy("east", Verdict.FAILING)
    told.healthy("east", Verdict.FAILING)
    assert [refusal.id for refusal in told.of(Refuse)] == ids[-1:]


def test_its_owner_switches_it_off_and_on(told: Told) -> None:
    told.healthy("east")
    assert told.tell(Toggled("east", is_enabled=True)) == []
    assert told.tell(Toggled("nobody", is_enabled=False)) == []
    told.tell(Toggled("east", is_enabled=False))
    assert told.of(Announce) == [Announce(News.REMOTE_DISABLED, "east")]
    told.tell(Polled("east", Verdict.HEALTHY))  # an answer that was on its way
    assert told.of(Announce) == []
    told.ask("a")
    assert told.refusal().is_temporary
    told.after(60.0)
    assert "east" not in told.polled
    told.tell(Toggled("east", is_enabled=True))
    assert told.of(Announce) == []  # the next poll says whether it can be reached
    told.ask("a")
    assert told.sent
    told.healthy("east")
    assert told.of(Announce) == [Announce(News.REMOTE_CONNECTED, "east")]


def test_what_it_does_when_it_is_switched_off_it_may_finish(told: Told) -> None:
    id = told.ask("a")
    told.tell(Toggled("east", is_enabled=False))
    assert told.effects[1:] == []
    assert told.end(id) == []


def test_silence_and_failures_have_it_asked_at_once(told: Told) -> None:
    told.healthy("east")
    told.tell(Doubted("east/a"))
    assert told.polled == ["east"]
    told.tell(Doubted("east/a"))
    assert told.polled == []
    told.tell(Polled("east", Verdict.HEALTHY))
    id = told.ask("a")
    told.end(id, Outcome.UNAVAILABLE)
    assert "east" in [effect.target.name for effect in told.after(0.0) if isinstance(effect, Poll)]


def test_an_answer_that_does_not_come_is_not_waited_for(told: Told) -> None:
    told.after(0.0)
    assert "east" in told.polled
    told.tell(Toggled("east", is_enabled=False))
    told.tell(Toggled("east", is_enabled=True))
    told.after(1.0)
    assert "east" not in told.polled
    told.after(1.1)
    assert "east" in told.polled


def test_a_table_keeps_what_is_known_of_a_host_that_is_reached_as_before(told: Told) -> None:
    for _ in range(2):
        told.healthy("east", Verdict.FAILING)
    told.tell(TableReplaced(a_table(AWAY, a_model("b"), hosts=(a_host("east", "a", "b"),))))
    told.ask("a")
    assert told.refusal().is_temporary
    elsewhere = a_host("east", "a").model_copy(update={"address": "10.0.0.10"})
    told.tell(TableReplaced(a_table(AWAY, hosts=(elsewhere,))))
    told.ask("a")
    assert told.sent


def test_a_host_that_leaves_the_table_finishes_what_it_has(told: Told) -> None:
    ids = [told.ask("a") for _ in range(REMOTE_LIMIT + 1)]
    told.tell(TableReplaced(a_table(AWAY)))
    assert [refusal.id for refusal in told.of(Refuse)] == ids[-1:]
    told.end(ids[0])
    told.end(ids[1], Outcome.BROKEN)
    assert told.refusal().id == ids[1]
    told.after(60.0)
    assert "east" not in told.polled


def test_a_host_before_this_machine_serves_first_and_this_machine_when_it_is_away() -> None:
    told = Told(a_table(a_model("a"), hosts=(a_host("east", "a", priority=10),)))
    told.up("a-max")
    told.ask("a")
    assert told.sent[0][1] == "east/a"
    told.tell(Toggled("east", is_enabled=False))
    told.ask("a")
    assert told.sent[0][1] == "a-max"


def test_a_latency_that_is_asked_for_passes_over_what_still_has_to_load() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", load_s=30.0)), hosts=(a_host("east", "a"),)))
    told.down("a-max")
    query = Query(model="a", max_latency_s=2.0)
    outcome = told.core.explain(query, told.now).outcome
    assert isinstance(outcome, Chosen)
    assert outcome.target.name == "east/a"
    told.ask("a")
    told.after(29.9)
    outcome = told.core.explain(query, told.now).outcome
    assert isinstance(outcome, Chosen)
