"""The budget of retries as traffic keeps it: requests are counted by the second, as most are never tried again."""

from __future__ import annotations

from kloros_infra.router import retries
from kloros_infra.router.retries import RetryBudget


class RetryCount:
    """Owns the budget; what was counted is entered where somebody asks for it, or the second is over."""

    def __init__(self) -> None:
        self._budget = RetryBudget()
        self._second = self._requests = 0
        self._until = 0.0

    def note_request(self, now: float) -> None:
        """Take in a request's first attempt."""
        if now >= self._until:
            self._enter()
            self._second = int(now)
            self._until = self._second + 1.0
        self._requests += 1

    def note_retry(self, now: float) -> None:
        """Take in a further attempt."""
        self._budget = retries.on_retry(self._enter(), now)

    def may_retry(self, now: float) -> bool:
        """Say whether there is room for one more attempt."""
        return retries.may_retry(self._enter(), now)

    def _enter(self) -> RetryBudget:
        if self._requests:
            budget = retries.on_request(self._budget, self._second)
            self._budget = budget._replace(requests=budget.requests + self._requests - 1)
            self._requests = 0
        return self._budget
