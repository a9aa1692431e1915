"""Notice passed deadlines of many things with one timer.

A timer per request costs more than the request's parsing. One sweep looks at everything that is
watched; it runs only while something is, so an idle router wakes nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

NEVER = float("inf")
LATE_S = 1.0
"""A timer that comes later than this finds that this process stood still (SIGSTOP, a suspended machine)."""


class Watched(Protocol):
    """A thing with a deadline on the loop's clock."""

    deadline: float

    def expire(self, now: float) -> None:
        """Act on the passed deadline; it stays watched until it is forgotten."""
        ...

    def put_off(self, lag_s: float, now: float) -> None:
        """Take in that this process stood still for so long: what came meanwhile has not been read yet."""
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
        self._due_at = NEVER

    def add(self, thing: AnyThing) -> None:
        """Watch a thing until it is forgotten."""
        self._watched.add(thing)
        if self._timer is None:
            self._wait(asyncio.get_running_loop())

    def things(self) -> tuple[AnyThing, ...]:
        """Give all that is watched now."""
        return tuple(self._watched)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        lag_s = now - self._due_at
        for thing in self.things():
            if lag_s > LATE_S:
                thing.put_off(lag_s, now)
            elif thing.deadline <= now:
                thing.expire(now)
        self._timer = None
        if self._watched:
            self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_at = loop.time() + self._period_s
        self._timer = loop.call_at(self._due_at, self._sweep)

    def close(self) -> None:
        """Stop the timer."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@asynccontextmanager
async def fair_timeout(limit_s: float) -> AsyncIterator[None]:
    """Limit what is awaited within; raise TimeoutError. Where this process itself stood still, the time begins anew."""
    loop = asyncio.get_running_loop()
    due_at = loop.time() + limit_s
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal due_at, timer
        now = loop.time()
        if now - due_at > LATE_S:
            due_at = now + limit_s
            timer = loop.call_at(due_at, look)
        else:
            limit.reschedule(now)

    timer = loop.call_at(due_at, look)
    try:
        async with asyncio.timeout(None) as limit:
            yield
    finally:
        timer.cancel()
