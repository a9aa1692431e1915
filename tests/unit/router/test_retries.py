"""The retry budget: a fifth of the requests of the last ten seconds, never fewer than open a breaker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.events import Outcome
from kloros_infra.router.retries import (
    LEAST_RETRIES,
    MOST_RETRIES,
    RETRY_SHARE,
    WINDOW_S,
    RetryBudget,
    is_worth_retrying,
    may_retry,
    on_request,
    on_retry,
)


def asked(budget: RetryBudget, times: int, *, now: float) -> RetryBudget:
    for _ in range(times):
        budget = on_request(budget, now)
    return budget


def retried(budget: RetryBudget, *, now: float) -> tuple[RetryBudget, int]:
    """Try again as often as the budget lets us."""
    count = 0
    while may_retry(budget, now):
        budget, count = on_retry(budget, now), count + 1
    return budget, count


def test_few_requests_have_as_many_retries_as_open_a_breaker() -> None:
    assert retried(asked(RetryBudget(), 1, now=100), now=100)[1] == LEAST_RETRIES


def test_many_requests_have_a_fifth() -> None:
    assert retried(asked(RetryBudget(), 100, now=100), now=100)[1] == 20


def test_ten_seconds_later_the_budget_is_whole_again() -> None:
    budget, _ = retried(asked(RetryBudget(), 1, now=100), now=100)
    assert not may_retry(budget, 100 + WINDOW_S - 1)
    assert may_retry(budget, 100 + WINDOW_S)


def test_a_second_without_anything_is_not_remembered() -> None:
    budget = asked(asked(RetryBudget(), 1, now=100), 1, now=105)
    assert [count.second for count in budget.before] == [100]


@given(
    st.lists(
        st.tuples(st.floats(0, 4), st.booleans()),
        max_size=200,
    )
)
def test_it_never_lets_more_through_than_the_window_allows(steps: list[tuple[float, bool]]) -> None:
    now, budget = 1000.0, RetryBudget()
    requests: list[int] = []
    retries: list[int] = []
    for seconds, is_request in steps:
        now += seconds
        lately = [sum(second > int(now) - WINDOW_S for second in times) for times in (requests, retries)]
        assert may_retry(budget, now) == (lately[1] < max(LEAST_RETRIES, int(RETRY_SHARE * lately[0])))
        if is_request:
            budget = on_request(budget, now)
            requests.append(int(now))
        elif may_retry(budget, now):
            budget = on_retry(budget, now)
            retries.append(int(now))
        assert len(budget.before) < WINDOW_S


@pytest.mark.parametrize(
    ("outcome", "is_worth"),
    [
        (Outcome.UNREACHED, True),
        (Outcome.SILENT, True),
        (Outcome.UNAVAILABLE, True),
        (Outcome.BUSY, True),
        (Outcome.LOADING, True),
        (Outcome.BROKEN, True),
        (Outcome.REFUSED, False),
        (Outcome.SERVED, False),
        (Outcome.STALLED, True),
    ],
)
def test_what_another_target_may_do_better_is_tried_again(outcome: Outcome, is_worth: bool) -> None:
    assert is_worth_retrying(outcome, attempt=1, has_begun=False) is is_worth


def test_a_request_is_tried_again_twice_at_most_and_never_once_it_has_begun() -> None:
    assert is_worth_retrying(Outcome.UNREACHED, attempt=MOST_RETRIES, has_begun=False)
    assert not is_worth_retrying(Outcome.UNREACHED, attempt=MOST_RETRIES + 1, has_begun=False)
    assert not is_worth_retrying(Outcome.BROKEN, attempt=1, has_begun=True)
