"""The usual request, which the core decides without the rest: as `on` would, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.ir.requests import Priority
from kloros_infra.router.effects import Allocated, AllocationChange, Send
from kloros_infra.router.events import Asked, Doubted, Ended, Outcome, Polled, UnitStarted, Verdict
from kloros_infra.router.query import Query
from tests.unit.router.told import Told, a_model, a_table, an_instance


def a_told(*, parallel: int = 2) -> Told:
    told = Told(a_table(a_model("a", an_instance("a-max", parallel=parallel))))
    told.up("a-max")
    told.end(told.ask("a"))  # from here on it is known who can answer
    return told


def asked(id: str = "r1", **more: Any) -> Asked:
    return Asked(id, Query(model="a"), "anyone", 60.0, 10)._replace(**more)


def test_a_request_for_a_free_target_is_sent_as_it_would_be_by_an_event() -> None:
    told, other = a_told(), a_told()
    send = told.core.at_once(asked(), told.now)
    assert [send] == other.tell(asked())
    assert isinstance(send, Send)
    assert (send.id, send.target.name, send.attempt) == ("r1", "a-max", 1)
    assert told.core.health(told.now) == other.core.health(other.now)
    assert told.core.served("r1", told.now)
    assert other.tell(Ended("r1", Outcome.SERVED)) == []
    assert told.core.health(told.now) == other.core.health(other.now)
    assert told.core.next_at() == other.core.next_at()


@pytest.mark.parametrize(
    "unusual",
    [
        asked(session="s"),
        asked(deadline_at=-1.0),
        asked(tokens=100_000),
        asked(query=Query(model="new")),
        asked(client="new"),
    ],
    ids=["of a session", "too late", "too long", "of a name not seen yet", "of a client not seen yet"],
)
def test_a_request_that_wants_more_than_a_look_is_left(unusual: Asked) -> None:
    told = a_told()
    assert told.core.at_once(unusual, told.now) is None
    assert told.core.health(told.now)["runtimes"][0]["active_requests"] == 0


def test_a_request_is_not_sent_twice_nor_to_what_is_full_or_not_ready() -> None:
    told = a_told(parallel=1)
    assert told.core.at_once(asked(), told.now) is not None
    assert told.core.at_once(asked(), told.now) is None
    assert told.core.at_once(asked("r2", priority=Priority.VOICE), told.now) is None
    assert told.core.served("r1", told.now)
    told.tell(Doubted("a-max"))
    told.tell(Polled("a-max", Verdict.FAILING))
    assert told.core.at_once(asked("r2"), told.now) is None


def test_an_end_that_others_wait_for_is_left_to_the_event() -> None:
    told = a_told(parallel=1)
    first, second = told.ask("a"), told.ask("a")
    assert not told.core.served(first, told.now)
    told.end(first)
    assert told.sent == [(second, "a-max")]
    assert not told.core.served("nobody", told.now)


def test_an_end_that_was_told_of_as_begun_is_left_to_the_event() -> None:
    told = a_told()
    id = told.ask("a")
    assert [one.change for one in told.after(0.1) if isinstance(one, Allocated)] == [AllocationChange.CREATED]
    assert not told.core.served(id, told.now)
    told.end(id)
    assert [one.change for one in told.of(Allocated)] == [AllocationChange.RELEASED]


@pytest.mark.parametrize("session", [None, "s"])
def test_a_target_that_serves_after_a_restart_has_none_to_its_name(session: str | None) -> None:
    told = a_told()
    for _ in range(3):
        told.tell(Doubted("a-max"))
        told.tell(Polled("a-max", Verdict.FAILING))
        told.after(0.0)
    told.after(2.0)
    told.tell(UnitStarted("a-max"))
    told.healthy("a-max")
    assert told.core.health(told.now)["runtimes"][0]["restarts"] == 1
    told.end(told.ask("a", session=session))
    assert told.core.health(told.now)["runtimes"][0]["restarts"] == 0
