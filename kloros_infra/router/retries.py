"""Whether a request may be tried again: a budget for all of them, and rules for each.

In an outage each retry adds load to what is left, so retries may be a fifth of the requests of the last ten
seconds (Envoy's retry budget), and where there are few as many as open a breaker: a target
that is gone costs nobody an answer.
"""

from __future__ import annotations

from typing import NamedTuple

from kloros_infra.router.breaker import FAILURES_IN_A_ROW
from kloros_infra.router.events import Outcome

RETRY_SHARE = 0.2
LEAST_RETRIES = FAILURES_IN_A_ROW
WINDOW_S = 10
MOST_RETRIES = 2
"""How often one request may be tried again."""

WORTH_RETRYING = frozenset(
    {
        Outcome.UNREACHED,
        Outcome.SILENT,
        Outcome.UNAVAILABLE,
        Outcome.BUSY,
        Outcome.LOADING,
        Outcome.STALLED,
        Outcome.BROKEN,
    }
)
"""Ends of attempts after which another target may do better, where nothing of an answer has been passed on."""


class Count(NamedTuple):
    """What came within one second of the clock."""

    second: int
    requests: int
    retries: int


class RetryBudget(NamedTuple):
    """What came in this second, and in those before it that still count."""

    second: int = 0
    requests: int = 0
    retries: int = 0
    before: tuple[Count, ...] = ()


def on_request(budget: RetryBudget, now: float) -> RetryBudget:
    """Take in a request's first attempt."""
    second = int(now)
    if second != budget.second:
        budget = _turned(budget, second)
    return RetryBudget(second, budget.requests + 1, budget.retries, budget.before)


def on_retry(budget: RetryBudget, now: float) -> RetryBudget:
    """Take in a further attempt."""
    budget = _turned(budget, int(now))
    return budget._replace(retries=budget.retries + 1)


def may_retry(budget: RetryBudget, now: float) -> bool:
    """Say whether the budget has room for one more attempt."""
    turned = _turned(budget, int(now))
    requests = turned.requests + sum(count.requests for count in turned.before)
    retries = turned.retries + sum(count.retries for count in turned.before)
    return retries < max(LEAST_RETRIES, int(RETRY_SHARE * requests))


def is_worth_retrying(outcome: Outcome, *, attempt: int, has_begun: bool) -> bool:
    """Say whether this request may be tried again; `attempt` counts from 1, `has_begun` once a byte has arrived.

    A refusal would be the same elsewhere, and after the first byte a second answer would follow part of the first.
    """
    return outcome in WORTH_RETRYING and attempt <= MOST_RETRIES and not has_begun


def _turned(budget: RetryBudget, second: int) -> RetryBudget:
    """Bring a budget to this second; those that have left the window are forgotten."""
    if second == budget.second:
        return budget
    last = Count(budget.second, budget.requests, budget.retries)
    kept = tuple(count for count in (*budget.before, last) if count.second > second - WINDOW_S and count[1:] != (0, 0))
    return RetryBudget(second, 0, 0, kept)
