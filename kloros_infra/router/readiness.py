"""Whether an upstream can be given requests: (state, event, now) → state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

# Design document, section 5.3: three failed checks in a row mark an instance unhealthy.
FAILED_POLLS_LIMIT = 3
READY_POLL_S = 5.0
# A ready upstream that missed a poll is asked again soon, so that three misses do not take 15 s.
DOUBT_POLL_S = 0.5
FIRST_UNREADY_POLL_S = 0.25
LAST_UNREADY_POLL_S = 2.0


class Readiness(StrEnum):
    """What is known of an upstream."""

    UNKNOWN = "unknown"
    READY = "ready"
    UNREADY = "unready"


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """One upstream as the router sees it; `since` is when `readiness` last changed."""

    since: float
    next_poll_at: float
    readiness: Readiness = Readiness.UNKNOWN
    failures: int = 0
    interval_s: float = FIRST_UNREADY_POLL_S

    @property
    def is_ready(self) -> bool:
        return self.readiness is Readiness.READY


def newly_seen(now: float) -> UpstreamState:
    """Begin with an upstream of which nothing is known: it is polled at once."""
    return UpstreamState(since=now, next_poll_at=now)


def on_poll(state: UpstreamState, *, is_healthy: bool, now: float) -> UpstreamState:
    """Take in the answer to `GET /health`: 200 makes ready at once, three misses make unready."""
    if is_healthy:
        ready = _changed(state, Readiness.READY, now)
        return replace(ready, failures=0, interval_s=FIRST_UNREADY_POLL_S, next_poll_at=now + READY_POLL_S)
    failures = state.failures + 1
    if state.is_ready and failures < FAILED_POLLS_LIMIT:
        return replace(state, failures=failures, next_poll_at=now + DOUBT_POLL_S)
    return _unready(replace(state, failures=failures), now)


def on_unreached(state: UpstreamState, *, now: float) -> UpstreamState:
    """Take in a request that could not be connected: that makes unready at once."""
    return _unready(replace(state, interval_s=FIRST_UNREADY_POLL_S), now)


def _unready(state: UpstreamState, now: float) -> UpstreamState:
    """Poll soon, then less often: a model may load for minutes."""
    backed_off = min(state.interval_s * 2, LAST_UNREADY_POLL_S)
    unready = _changed(state, Readiness.UNREADY, now)
    return replace(unready, next_poll_at=now + state.interval_s, interval_s=backed_off)


def _changed(state: UpstreamState, readiness: Readiness, now: float) -> UpstreamState:
    return state if state.readiness is readiness else replace(state, readiness=readiness, since=now)
