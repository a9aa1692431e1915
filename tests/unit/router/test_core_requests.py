"""What becomes of a request: sent, in line, tried again, continued, refused with a reason, or left."""

from __future__ import annotations

import pytest

from kloros_infra.ir.requests import ClientAccess, Priority
from kloros_infra.ir.routing import RoutedClient, RoutedPolicies, RoutedPurpose
from kloros_infra.router.admission import REMEMBERED
from kloros_infra.router.breaker import FAILURES_IN_A_ROW
from kloros_infra.router.effects import Allocated, AllocationChange, Continue, Refuse, Send
from kloros_infra.router.events import Asked, Began, Ended, Left, Outcome, Ticked
from kloros_infra.router.lending import YOUNG_S
from kloros_infra.router.query import Query
from kloros_infra.router.select import Chosen
from tests.unit.router.told import Told, a_host, a_model, a_table, an_instance

FAULTS = [Outcome.UNREACHED, Outcome.SILENT, Outcome.UNAVAILABLE, Outcome.BROKEN]


def a_client(name: str, *, max_queued: int | None = None, per_minute: int | None = None) -> RoutedClient:
    return RoutedClient(
        name=name,
        sources=(name,),
        credential=None,
        models=None,
        purposes=None,
        data_class=None,
        priority=None,
        max_queued=max_queued,
        requests_per_minute=per_minute,
    )


@pytest.fixture
def told() -> Told:
    """One model, ready, one request at a time."""
    told = Told(a_table(a_model("a")))
    told.up("a-max")
    return told


@pytest.fixture
def twice() -> Told:
    """One model on this machine and on another."""
    told = Told(a_table(a_model("a"), hosts=(a_host("east", "a"),)))
    told.up("a-max")
    return told


def test_a_request_goes_to_what_is_ready_at_once(told: Told) -> None:
    id = told.ask("a", for_s=20.0)
    (send,) = told.of(Send)
    assert (send.id, send.target.name, send.attempt) == (id, "a-max", 1)
    assert (send.first_byte_s, send.left_s, send.stall_s) == (20.0, 20.0, 30.0)
    assert send.allocation_id.startswith("alloc_00000007_")
    assert "'a'" in send.reason
    assert told.end(id) == []


def test_the_first_byte_may_take_as_long_as_the_bridge_allows_where_the_deadline_is_later(told: Told) -> None:
    told.ask("a", for_s=1000.0)
    assert (told.of(Send)[0].first_byte_s, told.of(Send)[0].left_s) == (300.0, 1000.0)


def test_an_id_that_is_known_is_the_same_request_told_twice(told: Told) -> None:
    event = Asked("same", Query(model="a"), "anyone", 10.0)
    assert told.tell(event)
    assert told.tell(event) == []


def test_what_nobody_knows_of_changes_nothing(told: Told) -> None:
    assert told.tell(Left("nobody")) == []
    assert told.tell(Began("nobody")) == []
    assert told.tell(Ended("nobody", Outcome.SERVED)) == []
    told.ask("a")
    waiting = told.ask("a")
    assert told.tell(Began(waiting)) == []
    assert told.tell(Ended(waiting, Outcome.SERVED)) == []
    assert told.core.queue_position(waiting) == 1


def test_as_many_go_at_a_time_as_there_are_slots_and_the_rest_in_turn() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", parallel=2))))
    told.up("a-max")
    ids = [told.ask("a", client=client) for client in ("x", "x", "x", "x", "y")]
    assert [told.core.queue_position(id) for id in ids] == [None, None, 1, 3, 2]
    told.end(ids[0])
    assert told.sent == [(ids[2], "a-max")]
    told.end(ids[1])
    assert told.sent == [(ids[4], "a-max")]
    assert told.core.queue_position("nobody") is None


def test_voice_goes_before_batch(told: Told) -> None:
    first = told.ask("a")
    told.ask("a", priority=Priority.BATCH)
    voice = told.ask("a", priority=Priority.VOICE)
    told.end(first)
    assert told.sent == [(voice, "a-max")]


def test_whoever_leaves_gets_nothing_more_and_makes_room(told: Told) -> None:
    first, second, third = told.ask("a"), told.ask("a"), told.ask("a")
    assert told.tell(Left(second)) == []
    told.tell(Left(first))
    assert told.sent == [(third, "a-max")]
    assert told.end(first) == []
    told.end(third)
    assert told.sent == []


def test_what_waits_until_its_deadline_is_refused_and_told_when_to_come_again(told: Told) -> None:
    told.ask("a", for_s=60.0)
    late = told.ask("a", for_s=2.0)
    told.after(1.9)
    assert told.of(Refuse) == []
    told.after(0.2)
    refusal = told.refusal()
    assert (refusal.id, refusal.problem.code, refusal.is_temporary) == (late, "KI870", True)
    assert "2.0 s in the line of 'a'" in refusal.problem.detail
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s >= 1.0


def test_what_comes_after_its_deadline_is_refused(told: Told) -> None:
    told.ask("a", for_s=0.0)
    assert told.refusal().problem.code == "KI870"


def test_an_unknown_model_is_refused_for_good(told: Told) -> None:
    told.ask("b")
    assert (told.refusal().problem.code, told.refusal().is_temporary) == ("KI801", False)


def test_a_full_line_refuses_with_its_length_and_only_then() -> None:
    told = Told(a_table(a_model("a"), max_queued=2))
    told.up("a-max")
    for _ in range(3):
        told.ask("a")
        assert told.of(Refuse) == []
    told.ask("a")
    refusal = told.refusal()
    assert (refusal.problem.code, refusal.is_temporary, refusal.position) == ("KI871", True, 3)
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s > 1.0


def test_where_the_line_of_the_best_is_full_the_next_serves() -> None:
    told = Told(a_table(a_model("a"), a_model("b"), max_queued=1))
    told.up("a-max", "b-max")
    told.ask()
    told.ask()
    third = told.ask()
    assert told.sent == [(third, "b-max")]


def test_a_client_may_have_only_so_many_waiting() -> None:
    policies = RoutedPolicies(clients=(a_client("few", max_queued=1),))
    told = Told(a_table(a_model("a"), policies=policies))
    told.up("a-max")
    first, second = told.ask("a", client="few"), told.ask("a", client="few")
    assert told.core.queue_position(second) == 1
    told.ask("a", client="few")
    assert (told.refusal().problem.code, told.refusal().is_temporary) == ("KI865", True)
    told.end(first)
    told.ask("a", client="few")
    assert told.of(Refuse) == []


def test_a_client_may_ask_only_so_often() -> None:
    policies = RoutedPolicies(clients=(a_client("slow", per_minute=1),))
    told = Told(a_table(a_model("a"), policies=policies))
    told.up("a-max")
    told.ask("a", client="slow")
    assert told.sent
    told.ask("a", client="slow")
    refusal = told.refusal()
    assert (refusal.problem.code, refusal.is_temporary, refusal.retry_after_s) == ("KI864", True, 60.0)


def test_unknown_clients_are_refused_where_they_are_not_wanted() -> None:
    policies = RoutedPolicies(clients=(a_client("known"),), unknown_clients=ClientAccess.REFUSE)
    told = Told(a_table(a_model("a"), policies=policies))
    told.up("a-max")
    told.ask("a", client="stranger")
    assert (told.refusal().problem.code, told.refusal().is_temporary) == ("KI860", False)
    told.ask("a", client="known")
    assert told.sent


@pytest.mark.parametrize("outcome", FAULTS)
def test_what_fails_before_it_began_is_tried_elsewhere(twice: Told, outcome: Outcome) -> None:
    id = twice.ask("a")
    assert twice.sent == [(id, "a-max")]
    twice.end(id, outcome)
    assert twice.sent == [(id, "east/a")]
    assert twice.of(Send)[0].attempt == 2


def test_what_would_fail_elsewhere_too_is_not_tried_again(twice: Told) -> None:
    id = twice.ask("a")
    twice.end(id, Outcome.REFUSED)
    assert twice.sent == []


@pytest.mark.parametrize("outcome", FAULTS)
def test_where_there_is_one_target_it_is_tried_again_once_it_is_healthy(told: Told, outcome: Outcome) -> None:
    id = told.ask("a")
    told.end(id, outcome)
    assert told.sent == []
    assert told.core.queue_position(id) == 1
    assert told.state("a-max") == "unhealthy"
    told.healthy("a-max")
    assert told.sent == [(id, "a-max")]


def test_a_third_failure_is_the_last(told: Told) -> None:
    id = told.ask("a")
    for _ in range(2):
        told.end(id, Outcome.BROKEN)
        told.healthy("a-max")
    told.end(id, Outcome.BROKEN)
    refusal = told.refusal()
    assert (refusal.problem.code, refusal.is_temporary) == ("KI873", True)
    assert "attempt 3" in refusal.problem.detail


def test_after_the_first_byte_nothing_is_tried_again(twice: Told) -> None:
    id = twice.ask("a")
    twice.tell(Began(id))
    twice.end(id, Outcome.BROKEN)
    assert twice.sent == []
    assert twice.of(Refuse) == []
    assert twice.end(id) == []


def a_chat(told_by: tuple[str, ...] = ("a",)) -> tuple[RoutedPurpose, ...]:
    return (
        RoutedPurpose(name="chat", candidates=told_by, otherwise=None, is_default=True, can_continue_elsewhere=True),
    )


def test_where_the_purpose_allows_it_another_goes_on() -> None:
    told = Told(a_table(a_model("a"), hosts=(a_host("east", "a"),), purposes=a_chat()))
    told.up("a-max")
    id = told.ask()
    assert told.of(Send)[0].can_continue
    told.tell(Began(id))
    told.end(id, Outcome.STALLED)
    (going_on,) = told.of(Continue)
    assert (going_on.send.id, going_on.send.target.name, going_on.send.attempt) == (id, "east/a", 2)
    told.end(id, Outcome.BROKEN)
    assert told.effects == []


def test_it_waits_for_another_that_has_no_place_yet() -> None:
    told = Told(a_table(a_model("a"), hosts=(a_host("east", "a"),), purposes=a_chat()))
    told.up("a-max")
    id = told.ask()
    told.tell(Began(id))
    others = []
    while told.core.queue_position(other := told.ask("a")) is None:
        others.append((other, told.sent[0][1]))
    told.tell(Left(other))
    assert told.end(id, Outcome.STALLED) == []
    assert told.core.queue_position(id) == 1
    there = next(other for other, target in others if target == "east/a")
    told.end(there)
    (going_on,) = told.of(Continue)
    assert (going_on.send.id, going_on.send.target.name, going_on.send.attempt) == (id, "east/a", 2)


def test_where_nobody_else_can_go_on_it_is_over() -> None:
    told = Told(a_table(a_model("a"), purposes=a_chat()))
    told.up("a-max")
    id = told.ask()
    told.tell(Began(id))
    assert told.end(id, Outcome.BROKEN) == []
    assert told.core.queue_position(id) is None


def test_a_deadline_that_cut_the_wait_for_a_first_byte_blames_nobody(twice: Told) -> None:
    for _ in range(FAILURES_IN_A_ROW + 1):
        id = twice.ask("a", for_s=1.0)
        assert twice.sent == [(id, "a-max")]
        twice.now += 1.0
        twice.end(id, Outcome.SILENT)
        assert twice.refusal().problem.code == "KI870"
    assert twice.core.health(twice.now)["runtimes"][0]["breaker"] == "closed"


def test_a_session_goes_back_to_where_it_was_served(twice: Told) -> None:
    blocking = twice.ask("a")
    id = twice.ask("a", session="s")
    assert twice.sent == [(id, "east/a")]
    twice.end(id)
    twice.end(blocking)
    twice.ask("a", session="s")
    assert twice.sent[0][1] == "east/a"
    twice.ask("a", session="other")
    assert twice.sent[0][1] == "a-max"


def test_a_prompt_too_long_is_refused_and_one_that_may_fit_is_not(told: Told) -> None:
    told.ask("a", tokens=100_000)
    assert told.refusal().problem.code == "KI807"
    told.ask("a", tokens=2100)
    assert told.sent


def test_one_that_waits_goes_only_where_it_fits() -> None:
    local = an_instance("a-max", context_tokens=64)
    told = Told(a_table(a_model("a", local), hosts=(a_host("east", "a"),)))
    told.up("a-max")
    for _ in range(9):
        told.ask("a")
    long = told.ask("a", tokens=1000)
    assert told.core.queue_position(long) == 1
    told.end("q1")
    assert told.sent == []
    told.end("q2")
    assert told.sent == [(long, "east/a")]


def test_an_allocation_is_told_of_once_it_has_lasted_a_moment(told: Told) -> None:
    id = told.ask("a")
    allocation_id = told.of(Send)[0].allocation_id
    told.after(YOUNG_S + 0.001)
    (created,) = told.of(Allocated)
    assert created.change is AllocationChange.CREATED
    assert (created.allocation_id, created.request_id, created.target) == (allocation_id, id, "a-max")
    assert (created.model_id, created.profile, created.ttl_s) == ("a", "max", 600.0)
    (released,) = told.end(id)
    assert released == created._replace(change=AllocationChange.RELEASED)


def test_of_many_allocations_each_is_told_of_in_its_time() -> None:
    told = Told(a_table(a_model("a", an_instance("a-max", parallel=4))))
    told.up("a-max")
    start, lasting, over = told.now, told.ask("a"), told.ask("a")
    told.end(over)
    told.now = start + YOUNG_S / 2
    later, last = told.ask("a"), told.ask("a")
    told.after(YOUNG_S / 2 + 0.001)
    assert [news.request_id for news in told.of(Allocated)] == [lasting]
    told.after(YOUNG_S)
    assert [news.request_id for news in told.of(Allocated)] == [later, last]


def test_a_request_tried_twice_in_a_moment_has_one_allocation_that_is_told_of(twice: Told) -> None:
    id = twice.ask("a")
    twice.end(id, Outcome.UNREACHED)
    second = twice.of(Send)[0].allocation_id
    twice.after(2 * YOUNG_S)
    assert [news.allocation_id for news in twice.of(Allocated)] == [second]
    assert twice.of(Allocated)[0].target == "east/a"


def test_what_was_decided_once_is_remembered_but_not_without_bound(told: Told) -> None:
    for number in range(REMEMBERED + 5):
        query = Query(model="a", min_context_tokens=number)
        told.tell(Asked(f"n{number}", query, "anyone", told.now + 9))
        told.tell(Ended(f"n{number}", Outcome.SERVED))
    assert told.of(Refuse) == []


def test_the_speed_at_which_prompts_are_read_is_observed(told: Told) -> None:
    for seconds in (1.0, 2.0):
        id = told.ask("a", tokens=1000)
        told.tell(Began(id))  # in no time, which says nothing
        told.now += seconds
        told.tell(Began(id))
        told.end(id)
    (row,) = told.core.explain(Query(model="a"), told.now).rows
    ((standing,),) = (row[1],)
    assert standing.prefill_tokens_per_s == pytest.approx(900.0)


def test_a_decision_is_explained_as_it_would_be_made(told: Told) -> None:
    outcome = told.core.explain(Query(model="a"), told.now, client="anyone").outcome
    assert isinstance(outcome, Chosen)
    id = told.ask("a")
    (send,) = told.of(Send)
    assert (outcome.target, outcome.reason) == (send.target, send.reason)
    (row,) = told.core.explain(Query(model="a"), told.now).rows
    assert row[1][0].is_waiting
    told.end(id)


def test_a_tick_with_nothing_due_does_nothing(told: Told) -> None:
    assert told.tell(Ticked()) == []
