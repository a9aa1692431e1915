"""A circuit breaker for each target: (breaker, what happened, now) → breaker.

A target that never fails costs nothing: outcomes are counted from its first failure on, in slots of one
second, until the window holds no failure any more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from kloros_infra.router.events import Outcome

FAILURES_IN_A_ROW = 5
WINDOW_S = 10
LEAST_IN_WINDOW = 10
FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 60.0
JITTER = 0.2
"""How far, up or down, the time that a breaker stays open is moved, so that many do not open again together."""
BUSY_S = 1.0
"""How long a target that is busy or loads is left alone where it does not say itself (no Retry-After)."""
LONGEST_BUSY_S = 300.0

BLAMED = frozenset({Outcome.UNREACHED, Outcome.SILENT, Outcome.UNAVAILABLE, Outcome.STALLED, Outcome.BROKEN})
"""Outcomes that speak against the target; a refusal of what was asked, being busy or loading shows that it works."""


class State(StrEnum):
    """The three states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """One request is on its way to see whether the target works again."""


class Slot(NamedTuple):
    """What ended within one second of the clock."""

    second: int
    successes: int
    failures: int


class Breaker(NamedTuple):
    """One target's breaker; `streak` counts failures in a row, `openings` those without a success between."""

    state: State = State.CLOSED
    streak: int = 0
    slots: tuple[Slot, ...] = ()
    opened_at: float = 0.0
    open_s: float = 0.0
    openings: int = 0
    busy_until: float = 0.0

    @property
    def is_probing(self) -> bool:
        return self.state is State.HALF_OPEN


def passes(breaker: Breaker, now: float) -> bool:
    """Say whether a request may go to the target; where the breaker is open, as its probe (see `on_probe`)."""
    if now < breaker.busy_until or breaker.state is State.HALF_OPEN:
        return False
    return breaker.state is State.CLOSED or now >= breaker.opened_at + breaker.open_s


def passes_at(breaker: Breaker) -> float | None:
    """Say from when on it passes; None while a probe is on its way, for only its end can tell."""
    if breaker.state is State.HALF_OPEN:
        return None
    opens_at = breaker.opened_at + breaker.open_s if breaker.state is State.OPEN else 0.0
    return max(opens_at, breaker.busy_until)


def on_probe(breaker: Breaker, now: float) -> Breaker:
    """Take in that a request is sent: of an open breaker it is the probe, and no other passes until it has ended."""
    is_probe = breaker.state is State.OPEN and passes(breaker, now)
    return breaker._replace(state=State.HALF_OPEN) if is_probe else breaker


def on_abandoned(breaker: Breaker) -> Breaker:
    """Take in that a probe was given up before it could tell anything: the next request is one."""
    return breaker._replace(state=State.OPEN) if breaker.state is State.HALF_OPEN else breaker


def on_success(breaker: Breaker, now: float) -> Breaker:
    """Take in that the target worked; while it is open that is the end of an older request and changes nothing."""
    if breaker.state is State.HALF_OPEN:
        return Breaker(busy_until=breaker.busy_until)
    if not breaker.slots or breaker.state is State.OPEN:
        return breaker
    slots = _counted(breaker.slots, now, successes=1)
    # Only failures are worth remembering.
    return breaker._replace(streak=0, slots=slots if any(slot.failures for slot in slots) else ())


def on_failure(breaker: Breaker, now: float, jitter: float) -> Breaker:
    """Take in that the target failed; `jitter` is a number from 0 up to 1 (`jitter_of`)."""
    match breaker.state:
        case State.OPEN:
            return breaker
        case State.HALF_OPEN:
            return _opened(breaker, now, jitter)
        case _:
            slots = _counted(breaker.slots, now, failures=1)
            worse = breaker._replace(streak=breaker.streak + 1, slots=slots)
            return _opened(worse, now, jitter) if _is_tripped(worse) else worse


def on_busy(breaker: Breaker, now: float, retry_after_s: float | None) -> Breaker:
    """Take in that the target has too much to do: it works, and is left alone for as long as it says."""
    asked_s = BUSY_S if retry_after_s is None else retry_after_s
    busy_until = now + min(max(asked_s, 0.0), LONGEST_BUSY_S)
    return on_success(breaker, now)._replace(busy_until=max(busy_until, breaker.busy_until))


def jitter_of(seed: int, count: int) -> float:
    """Give a number from 0 up to 1 that depends on nothing else (splitmix64's finaliser)."""
    mask = 2**64 - 1
    mixed = (seed + (count + 1) * 0x9E3779B97F4A7C15) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return (mixed ^ (mixed >> 31)) / 2**64


def _is_tripped(breaker: Breaker) -> bool:
    failures = sum(slot.failures for slot in breaker.slots)
    ended = failures + sum(slot.successes for slot in breaker.slots)
    return breaker.streak >= FAILURES_IN_A_ROW or (ended >= LEAST_IN_WINDOW and 2 * failures >= ended)


def _opened(breaker: Breaker, now: float, jitter: float) -> Breaker:
    open_s = min(FIRST_OPEN_S * 2**breaker.openings, LONGEST_OPEN_S) * (1 + JITTER * (2 * jitter - 1))
    # Five doublings are more than the longest: counting on would only make the power grow.
    openings = min(breaker.openings + 1, 5)
    return Breaker(State.OPEN, 0, (), now, open_s, openings, breaker.busy_until)


def _counted(slots: tuple[Slot, ...], now: float, *, successes: int = 0, failures: int = 0) -> tuple[Slot, ...]:
    """Count into the slot of this second, and forget those that have left the window."""
    second = int(now)
    kept = tuple(slot for slot in slots if second - WINDOW_S < slot.second < second)
    last = slots[-1] if slots and slots[-1].second == second else Slot(second, 0, 0)
    return (*kept, Slot(second, last.successes + successes, last.failures + failures))
