"""Notice passed deadlines of many things with one timer.

A timer per request costs more than the request's parsing. One sweep looks at everything that is
watched; it runs only while something is, so an idle router wakes nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

NEVER = float("inf")


class Watched(Protocol):
    """A thing with a deadline on the loop's clock."""

    deadline: float

    def expire(self, now: float) -> None:
        """Act on the passed deadline; it stays watched until it is forgotten."""
        ...


AnyThing = TypeVar("AnyThing", bound=Watched)


class DeadlineWatch(Generic[AnyThing]):
    """Sweep watched things every `period_s`, which is by how much an expiry may be late."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._watched: set[AnyThing] = set()
        self.forget: Callable[[AnyThing], None] = self._watched.discard
        """Stop watching a thing; one that is not watched is fine."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, thing: AnyThing) -> None:
        """Watch a thing until it is forgotten."""
        self._watched.add(thing)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._period_s, self._sweep)

    def things(self) -> tuple[AnyThing, ...]:
        """Give all that is watched now."""
        return tuple(self._watched)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for thing in self.things():
            if thing.deadline <= now:
                thing.expire(now)
        self._timer = loop.call_later(self._period_s, self._sweep) if self._watched else None

    def close(self) -> None:
        """Stop the timer."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
