"""Instances: started when wanted, used when ready, drained, restarted, stopped for idleness, and never needlessly."""

from __future__ import annotations

import pytest

from kloros_infra.ir.announcements import News
from kloros_infra.ir.routing import RoutingTable, Upstream
from kloros_infra.router.effects import Allocated, Announce, Poll, Refuse, RestartUnit
from kloros_infra.router.events import (
    Doubted,
    Outcome,
    Polled,
    StartAsked,
    StopAsked,
    TableReplaced,
    UnitFailed,
    UnitSeen,
    UnitStarted,
    UnitStopped,
    Verdict,
)
from kloros_infra.router.fleet import ELSEWHERE_PAUSE_S
from kloros_infra.router.instance import LOADING_POLL_S, POLL_LOST_S, POLL_S
from kloros_infra.router.lease import Lease
from tests.unit.router.told import Told, a_model, a_table, an_instance

LOG = ("error loading model: tensor is missing", "exiting due to an error")


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


def test_at_first_everything_is_asked_whether_it_runs() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max"), an_instance("a-mid"))))
    told.after(0.0)
    assert told.polled == ["a-max", "a-mid"]
    assert told.state("a-max") == "unknown"


def test_requests_before_anything_is_known_wait_and_are_served_by_what_runs() -> None:
    told = Told(a_table(a_model("a")))
    id = told.ask("a")
    assert told.effects == []
    told.healthy("a-max")
    assert told.sent == [(id, "a-max")]


def test_what_does_not_answer_at_first_is_taken_as_stopped_and_started_for_a_request() -> None:
    told = Told(a_table(a_model("a")))
    told.ask("a")
    for _ in range(3):
        assert told.started == []
        told.healthy("a-max", Verdict.FAILING)
    assert told.started == ["a-max"]


def test_the_first_request_starts_it_and_all_that_come_join_the_one_start(stopped: Told) -> None:
    first = stopped.ask("a", client="x")
    assert stopped.started == ["a-max"]
    second = stopped.ask("a", client="y")
    assert stopped.started == []
    assert stopped.state("a-max") == "starting"
    stopped.tell(UnitStarted("a-max"))
    assert stopped.state("a-max") == "loading"
    stopped.healthy("a-max", Verdict.LOADING)
    stopped.healthy("a-max")
    assert stopped.sent == [(first, "a-max")]
    stopped.end(first)
    assert stopped.sent == [(second, "a-max")]


def test_while_it_loads_it_is_asked_every_twenty_five_milliseconds(stopped: Told) -> None:
    stopped.ask("a")
    stopped.tell(UnitStarted("a-max"))
    for _ in range(3):
        assert stopped.core.next_at() == pytest.approx(stopped.now + LOADING_POLL_S)
        stopped.healthy("a-max", Verdict.LOADING)


def test_a_load_that_failed_is_final_for_all_that_wait_and_says_why(stopped: Told) -> None:
    ids = [stopped.ask("a"), stopped.ask("a")]
    stopped.tell(UnitFailed("a-max", "It ended with exit code 1.", LOG))
    refusals = stopped.of(Refuse)
    assert sorted(refusal.id for refusal in refusals) == ids
    assert {(refusal.problem.code, refusal.is_temporary) for refusal in refusals} == {("KI872", False)}
    assert all(line in refusals[0].problem.detail for line in LOG)
    stopped.ask("a")
    assert stopped.refusal().problem.code == "KI872"
    assert stopped.started == []
    stopped.after(100.0)
    assert (stopped.started, stopped.stopped) == ([], [])


@pytest.mark.parametrize("is_table", [True, False])
def test_another_definition_or_an_operator_gives_it_another_try(stopped: Told, is_table: bool) -> None:
    stopped.ask("a")
    stopped.tell(UnitFailed("a-max", "no", LOG))
    stopped.tell(TableReplaced(stopped.core.table))
    assert stopped.state("a-max") == "failed"
    if is_table:
        stopped.tell(TableReplaced(a_table(a_model("a", an_instance("a-max", definition="2")))))
        stopped.ask("a")
    else:
        stopped.tell(StartAsked("a-max"))
    assert stopped.started == ["a-max"]


def test_one_that_someone_else_starts_serves_whatever_was_known_of_it(stopped: Told) -> None:
    stopped.ask("a")
    stopped.tell(UnitFailed("a-max", "no", LOG))
    stopped.tell(Polled("a-max", Verdict.HEALTHY))
    assert stopped.state("a-max") == "failed"  # nobody had asked: the answer is of the process before
    stopped.after(1.0)
    stopped.healthy("a-max")
    assert stopped.state("a-max") == "healthy"


def test_what_does_not_become_ready_in_time_is_given_up(stopped: Told) -> None:
    id = stopped.ask("a", for_s=500.0)
    stopped.tell(UnitStarted("a-max"))
    stopped.now += 60.5
    stopped.after(0.0)
    assert stopped.stopped == ["a-max"]
    stopped.tell(UnitStopped("a-max"))
    assert (stopped.refusal().id, stopped.refusal().problem.code) == (id, "KI872")
    assert "60 s" in stopped.refusal().problem.detail


def test_whoever_stood_still_himself_looks_again_before_he_gives_one_up(stopped: Told) -> None:
    stopped.ask("a", for_s=500.0)
    stopped.tell(UnitStarted("a-max"))
    stopped.now += 100.0
    stopped.after(0.0)
    assert (stopped.stopped, stopped.polled) == ([], ["a-max"])
    stopped.after(POLL_LOST_S)
    assert stopped.stopped == ["a-max"]


def test_time_to_load_begins_anew_when_loading_does(stopped: Told) -> None:
    stopped.ask("a", for_s=500.0)
    stopped.now += 30.0
    stopped.tell(UnitStarted("a-max"))
    stopped.now += 40.0
    stopped.after(0.0)
    assert stopped.stopped == []
    stopped.now += 20.5
    stopped.after(0.0)
    assert stopped.stopped == ["a-max"]


def test_one_that_is_asked_for_its_health_loads_or_serves_as_it_says(ready: Told) -> None:
    ready.tell(Polled("a-max", Verdict.LOADING))
    assert ready.state("a-max") == "loading"
    ready.ask("a")
    assert ready.sent == []


def test_an_answer_that_does_not_come_is_not_waited_for(ready: Told) -> None:
    ready.after(POLL_S)
    assert ready.polled == ["a-max"]
    ready.after(POLL_LOST_S - 0.1)
    assert ready.polled == []
    ready.after(0.2)
    assert ready.polled == ["a-max"]


def test_no_second_poll_is_asked_while_an_answer_is_awaited(ready: Told) -> None:
    ready.after(POLL_S)
    ready.tell(Doubted("a-max"))
    assert ready.polled == []
    id = ready.ask("a")
    ready.end(id, Outcome.BROKEN)
    ready.after(0.01)
    assert ready.polled == []


def test_silence_is_asked_about_at_once_until_three_failures_restart_it(ready: Told) -> None:
    ready.ask("a")
    ready.tell(Doubted("a-max"))
    (poll,) = ready.of(Poll)
    assert poll.timeout_s == 0.5
    start = ready.now
    ready.now += 0.5
    ready.tell(Polled("a-max", Verdict.FAILING))
    assert ready.state("a-max") == "unhealthy"
    for _ in range(2):
        assert ready.polled or ready.after(0.0)
        ready.now += 0.5
        ready.tell(Polled("a-max", Verdict.FAILING))
    assert ready.of(RestartUnit) == [RestartUnit("a-max")]
    assert ready.now - start <= 1.5
    assert "restarted" in ready.of(Announce)[0].reason
    ready.healthy("a-max")
    assert ready.of(Announce)[0].news is News.INSTANCE_UP


def test_a_doubt_that_proves_wrong_changes_nothing(ready: Told) -> None:
    ready.ask("a")
    ready.tell(Doubted("a-max"))
    ready.tell(Polled("a-max", Verdict.HEALTHY))
    assert ready.state("a-max") == "healthy"
    ready.tell(Doubted("nobody"))
    assert ready.effects == []


def test_a_restart_that_is_due_later_comes_then(ready: Told) -> None:
    ready.now = 100.0
    for _ in range(3):
        ready.tell(Doubted("a-max"))
        ready.tell(Polled("a-max", Verdict.FAILING))
        ready.after(0.0)
    assert RestartUnit("a-max") in ready.effects or ready.state("a-max") == "starting"
    ready.tell(UnitStarted("a-max"))
    ready.healthy("a-max")
    for _ in range(3):
        ready.tell(Doubted("a-max"))
        ready.tell(Polled("a-max", Verdict.FAILING))
        ready.after(0.0)
    assert ready.state("a-max") == "unhealthy"
    effects = ready.after(1.1)
    assert RestartUnit("a-max") in effects


def test_one_that_crashed_is_started_without_waiting_for_a_request(ready: Told) -> None:
    ready.tell(UnitFailed("a-max", "It was killed.", LOG))
    assert "ended by itself" in ready.of(Announce)[0].reason
    assert ready.state("a-max") == "stopped"
    ready.after(0.9)
    assert ready.started == []
    ready.after(0.2)
    assert ready.started == ["a-max"]


def test_one_that_keeps_crashing_is_started_less_often_until_it_has_served(ready: Told) -> None:
    for pause_s in (1.0, 2.0, 4.0):
        ready.tell(UnitFailed("a-max", "It was killed.", LOG))
        ready.after(pause_s - 0.1)
        assert ready.started == []
        ready.after(0.2)
        assert ready.started == ["a-max"]
        ready.tell(UnitStarted("a-max"))
        ready.healthy("a-max")
    id = ready.ask("a")
    ready.end(id)
    ready.tell(UnitFailed("a-max", "It was killed.", LOG))
    ready.after(1.1)
    assert ready.started == ["a-max"]


def test_requests_that_come_between_crash_and_restart_wait_for_it(ready: Told) -> None:
    ready.tell(UnitFailed("a-max", "It was killed.", LOG))
    ready.ask("a")
    assert ready.started == []
    ready.after(1.1)
    assert ready.started == ["a-max"]


def test_another_process_is_another_start(ready: Told) -> None:
    session = ready.ask("a", session="s")
    ready.end(session)
    ready.tell(UnitSeen("a-max", is_up=True, pid=100))
    assert ready.state("a-max") == "healthy"
    ready.tell(UnitSeen("a-max", is_up=True))
    assert ready.state("a-max") == "healthy"
    ready.tell(UnitSeen("a-max", is_up=True, pid=101))
    assert ready.state("a-max") == "loading"
    ready.healthy("a-max")
    assert ready.state("a-max") == "healthy"


def test_what_is_said_of_units_that_are_in_no_table_changes_nothing(ready: Told) -> None:
    for event in (
        UnitSeen("other-max", is_up=True),
        UnitStarted("other-max"),
        UnitStopped("other-max"),
        UnitFailed("other-max", "no"),
        StartAsked("other-max"),
        StopAsked("other-max"),
        Polled("other-max", Verdict.HEALTHY),
    ):
        assert ready.tell(event) == []


def test_a_unit_that_starts_is_not_up_yet_and_one_that_serves_is_not_started(stopped: Told, ready: Told) -> None:
    stopped.ask("a")
    stopped.tell(UnitSeen("a-max", is_up=False))
    assert stopped.state("a-max") == "starting"
    ready.tell(UnitStarted("a-max"))
    assert ready.state("a-max") == "healthy"


def test_one_that_someone_else_stopped_is_started_again_for_those_that_wait(ready: Told) -> None:
    ready.ask("a")
    ready.ask("a")
    ready.tell(UnitSeen("a-max", is_up=False))
    assert ready.started == []  # whoever stopped it may be about to start it
    ready.after(ELSEWHERE_PAUSE_S)
    assert ready.started == ["a-max"]


def test_idle_it_stops_after_its_time_and_not_before(ready: Told) -> None:
    ready.after(200.0)
    id = ready.ask("a")
    ready.end(id)
    ready.after(299.0)
    assert ready.stopped == []
    ready.after(2.0)
    assert ready.stopped == ["a-max"]
    ready.tell(UnitStopped("a-max"))
    assert ready.state("a-max") == "stopped"


def test_one_at_work_is_not_idle(ready: Told) -> None:
    id = ready.ask("a", for_s=2000.0)
    ready.after(1000.0)
    assert ready.stopped == []
    ready.end(id)
    ready.after(299.0)
    assert ready.stopped == []
    ready.after(2.0)
    assert ready.stopped == ["a-max"]


@pytest.mark.parametrize(
    "instance", [an_instance("a-max", is_pinned=True), an_instance("a-max", idle_timeout_s=None)], ids=["pin", "time"]
)
def test_what_is_pinned_or_has_no_time_is_never_idle(instance: Upstream) -> None:
    told = Told(a_table(a_model("a", instance)))
    told.up("a-max")
    told.after(5000.0)
    assert told.stopped == []


def test_a_table_may_pin_what_was_about_to_be_idle(ready: Told) -> None:
    ready.tell(TableReplaced(a_table(a_model("a", an_instance("a-max", is_pinned=True)))))
    ready.after(400.0)
    assert ready.stopped == []


def an_old_lease(target: str, *, ttl_s: float = 600.0) -> Lease:
    return Lease("alloc_old", "req_old", "a", "max", target, -10.0, ttl_s)


def test_what_was_lent_before_a_restart_is_not_idle_until_it_expires() -> None:
    told = Told(a_table(a_model("a")), leases=[an_old_lease("a-max")])
    told.up("a-max")
    told.after(580.0)
    assert told.stopped == []
    told.after(20.0)
    assert [(news.change, news.allocation_id) for news in told.of(Allocated)] == [("expired", "alloc_old")]
    assert told.stopped == ["a-max"]


def test_what_was_lent_of_a_process_that_ended_is_gone() -> None:
    told = Told(a_table(a_model("a")), leases=[an_old_lease("a-max")])
    told.down("a-max")
    assert [(news.change, news.allocation_id) for news in told.of(Allocated)] == [("evicted", "alloc_old")]


def test_changes_count_what_health_says_of_targets(ready: Told) -> None:
    before = ready.core.changes
    id = ready.ask("a")
    ready.end(id)
    ready.after(POLL_S)
    ready.tell(Polled("a-max", Verdict.HEALTHY))
    assert ready.core.changes == before
    ready.tell(StopAsked("a-max"))
    assert ready.core.changes > before


def test_uptime_is_the_process_and_not_the_state(ready: Told) -> None:
    def uptime() -> object:
        return ready.core.health(ready.now)["runtimes"][0]["uptime_seconds"]

    ready.now += 10.0
    id = ready.ask("a")
    ready.end(id, Outcome.BROKEN)
    assert (ready.state("a-max"), uptime()) == ("unhealthy", 10)
    ready.healthy("a-max")
    assert (ready.state("a-max"), uptime()) == ("healthy", 10)
    ready.tell(UnitSeen("a-max", is_up=True, pid=4711))
    ready.now += 3.0
    assert uptime() == 3
    ready.down("a-max")
    assert uptime() == 0


def test_health_says_what_runs_and_for_how_long(ready: Told) -> None:
    ready.now += 12.0
    ready.ask("a")
    (runtime,) = ready.core.health(ready.now)["runtimes"]
    assert runtime == {
        "profile": "a-max",
        "status": "healthy",
        "model_id": "a",
        "port": 8601,
        "uptime_seconds": 12,
        "active_requests": 1,
        "queued_requests": 0,
        "breaker": "closed",
        "restarts": 0,
        "reason": "",
    }
    assert ready.core.health(ready.now)["gpu_profile"] == "max"


def test_a_table_that_is_read_again_changes_nothing(ready: Told) -> None:
    table: RoutingTable = ready.core.table
    assert ready.tell(TableReplaced(table)) == []
