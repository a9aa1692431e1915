"""The life of an instance: (state, what happened) → state as one table, and when it is asked for its health.

What is known comes from three sides: the service manager, the health polls, and the requests themselves.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from kloros_infra.router.events import Verdict

# Design document, section 5.3: asked every 30 s, and three failures in a row mean that it is unhealthy.
POLL_S = 30.0
FAILED_POLLS_LIMIT = 3
LOADING_POLL_S = 0.025
"""While it loads: what is ready is used within 50 ms."""
DOUBT_POLL_S = 0.25
UNKNOWN_POLL_S = 0.05
ELSEWHERE_POLL_S = 5.0
"""What does not run may be started by someone else."""
POLL_TIMEOUT_S = 1.0
DOUBT_TIMEOUT_S = 0.5
POLL_LOST_S = 2.0
"""An answer to a poll that has not come after so long will not come."""
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LEAST_LOAD_LIMIT_S = 60.0
LOAD_LIMIT_FACTOR = 10.0


class State(StrEnum):
    """Where an instance is in its life."""

    UNKNOWN = "unknown"
    """Nobody has said yet whether it runs: it is asked, and counts as holding its memory."""
    STOPPED = "stopped"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    SUSPECT = "suspect"
    """It has failed a request or a poll: it gets no requests before it is healthy."""
    DRAINING = "draining"
    """It gets no more requests, and stops when those that it has are done."""
    STOPPING = "stopping"
    FAILED = "failed"
    """It did not load, and is not tried again before it is defined otherwise or an operator starts it."""


HOLDING = frozenset(State) - {State.STOPPED, State.FAILED}
"""States in which it holds its memory, or may."""
WITHOUT_PROCESS = frozenset({State.UNKNOWN, State.STOPPED, State.STARTING, State.FAILED})
"""States in which it has no process, or none that is known."""
COMING = frozenset({State.UNKNOWN, State.STARTING, State.LOADING, State.SUSPECT})
"""States in which it may soon be ready by itself."""


class Happening(Enum):
    """What can happen to an instance."""

    START_ORDERED = "start ordered"
    RESTART_ORDERED = "restart ordered"
    STOP_ORDERED = "stop ordered"
    DRAIN_ORDERED = "drain ordered"
    REVIVED = "revived"
    """It was to stop, and is wanted after all."""
    APPEARED = "appeared"
    """There is a process, or another one than before."""
    HEALTHY = "healthy"
    LOADS = "loads"
    UNHEALTHY = "unhealthy"
    """Three polls in a row have failed."""
    LEAVING = "leaving"
    """Somebody else stops it."""
    STAYED = "stayed"
    """It was to stop, and did not."""
    DOUBTED = "doubted"
    """A poll or a request has failed."""
    GONE = "gone"
    DIED = "died"
    REDEFINED = "redefined"


_S, _H = State, Happening
TRANSITIONS: dict[tuple[State, Happening], State] = {
    (_S.UNKNOWN, _H.START_ORDERED): _S.STARTING,
    (_S.UNKNOWN, _H.STOP_ORDERED): _S.STOPPING,
    (_S.UNKNOWN, _H.DRAIN_ORDERED): _S.DRAINING,
    (_S.UNKNOWN, _H.APPEARED): _S.LOADING,
    (_S.UNKNOWN, _H.HEALTHY): _S.READY,
    (_S.UNKNOWN, _H.LOADS): _S.LOADING,
    (_S.UNKNOWN, _H.UNHEALTHY): _S.STOPPED,
    (_S.UNKNOWN, _H.GONE): _S.STOPPED,
    (_S.UNKNOWN, _H.DIED): _S.STOPPED,
    (_S.STOPPED, _H.START_ORDERED): _S.STARTING,
    (_S.STOPPED, _H.RESTART_ORDERED): _S.STARTING,
    (_S.STOPPED, _H.APPEARED): _S.LOADING,
    (_S.STOPPED, _H.HEALTHY): _S.READY,
    (_S.STOPPED, _H.LOADS): _S.LOADING,
    (_S.STARTING, _H.APPEARED): _S.LOADING,
    (_S.STARTING, _H.HEALTHY): _S.READY,
    (_S.STARTING, _H.LOADS): _S.LOADING,
    (_S.STARTING, _H.STOP_ORDERED): _S.STOPPING,
    (_S.STARTING, _H.DRAIN_ORDERED): _S.DRAINING,
    (_S.STARTING, _H.GONE): _S.STOPPED,
    (_S.STARTING, _H.DIED): _S.FAILED,
    (_S.LOADING, _H.HEALTHY): _S.READY,
    (_S.LOADING, _H.STOP_ORDERED): _S.STOPPING,
    (_S.LOADING, _H.DRAIN_ORDERED): _S.DRAINING,
    (_S.LOADING, _H.GONE): _S.STOPPED,
    (_S.LOADING, _H.DIED): _S.FAILED,
    (_S.READY, _H.APPEARED): _S.LOADING,
    (_S.READY, _H.LOADS): _S.LOADING,
    (_S.READY, _H.DOUBTED): _S.SUSPECT,
    (_S.READY, _H.STOP_ORDERED): _S.STOPPING,
    (_S.READY, _H.DRAIN_ORDERED): _S.DRAINING,
    (_S.READY, _H.GONE): _S.STOPPED,
    (_S.READY, _H.DIED): _S.STOPPED,
    (_S.SUSPECT, _H.APPEARED): _S.LOADING,
    (_S.SUSPECT, _H.HEALTHY): _S.READY,
    (_S.SUSPECT, _H.LOADS): _S.LOADING,
    (_S.SUSPECT, _H.RESTART_ORDERED): _S.STARTING,
    (_S.SUSPECT, _H.STOP_ORDERED): _S.STOPPING,
    (_S.SUSPECT, _H.DRAIN_ORDERED): _S.DRAINING,
    (_S.SUSPECT, _H.GONE): _S.STOPPED,
    (_S.SUSPECT, _H.DIED): _S.STOPPED,
    (_S.DRAINING, _H.STOP_ORDERED): _S.STOPPING,
    (_S.DRAINING, _H.REVIVED): _S.SUSPECT,
    (_S.DRAINING, _H.APPEARED): _S.LOADING,
    (_S.DRAINING, _H.GONE): _S.STOPPED,
    (_S.DRAINING, _H.DIED): _S.STOPPED,
    (_S.UNKNOWN, _H.LEAVING): _S.STOPPING,
    (_S.STOPPED, _H.LEAVING): _S.STOPPING,
    (_S.STARTING, _H.LEAVING): _S.STOPPING,
    (_S.LOADING, _H.LEAVING): _S.STOPPING,
    (_S.READY, _H.LEAVING): _S.STOPPING,
    (_S.SUSPECT, _H.LEAVING): _S.STOPPING,
    (_S.DRAINING, _H.LEAVING): _S.STOPPING,
    (_S.STOPPING, _H.STAYED): _S.SUSPECT,
    (_S.STOPPING, _H.APPEARED): _S.LOADING,
    (_S.STOPPING, _H.GONE): _S.STOPPED,
    (_S.STOPPING, _H.DIED): _S.STOPPED,
    (_S.FAILED, _H.START_ORDERED): _S.STARTING,
    (_S.FAILED, _H.APPEARED): _S.LOADING,
    (_S.FAILED, _H.HEALTHY): _S.READY,
    (_S.FAILED, _H.LOADS): _S.LOADING,
    (_S.FAILED, _H.REDEFINED): _S.STOPPED,
}
"""What is not in it changes nothing."""

OTHER_PROCESS = frozenset(
    {_H.START_ORDERED, _H.RESTART_ORDERED, _H.STOP_ORDERED, _H.LEAVING, _H.GONE, _H.DIED, _H.APPEARED, _H.REDEFINED}
)


class Life(NamedTuple):
    """An instance's state, since when, and what led to it."""

    state: State
    since: float
    definition: str = ""
    pid: int = 0
    failures: int = 0
    """Polls that failed in a row."""
    polled_at: float | None = None
    """When the poll was asked whose answer is awaited."""
    restarts: int = 0
    """Restarts without a request served between."""
    reason: str = ""
    last_lines: tuple[str, ...] = ()
    up_since: float = 0.0
    """Since when its process is known."""

    @property
    def is_holding(self) -> bool:
        return self.state in HOLDING

    def up_s(self, now: float) -> float:
        """Say how long its process has been up, 0 where there is none."""
        return 0.0 if self.state in WITHOUT_PROCESS else now - self.up_since


def begun(definition: str, now: float) -> Life:
    """Begin with an instance of which nothing is known."""
    return Life(State.UNKNOWN, now, definition)


def after(life: Life, happening: Happening, now: float) -> Life:
    """Take in what happened; what counts towards the next state begins anew with a new state."""
    state = TRANSITIONS.get((life.state, happening), life.state)
    if state is life.state:
        return life
    # Where there is another process, or none, the answer to a poll of the one before says nothing.
    polled_at = None if happening in OTHER_PROCESS else life.polled_at
    is_new = life.state in WITHOUT_PROCESS or happening is Happening.APPEARED
    up_since = now if is_new else life.up_since
    return life._replace(state=state, since=now, failures=0, polled_at=polled_at, up_since=up_since)


def on_poll(life: Life, verdict: Verdict, now: float) -> Life:
    """Take in the answer to a poll; the third failure in a row, and what it means, is for `is_unhealthy`."""
    answered = life._replace(polled_at=None)
    match verdict:
        case Verdict.HEALTHY:
            return after(answered._replace(failures=0), Happening.HEALTHY, now)
        case Verdict.LOADING:
            return after(answered._replace(failures=0), Happening.LOADS, now)
        case _:
            failures = life.failures + 1
            return after(answered, Happening.DOUBTED, now)._replace(failures=failures)


def is_unhealthy(life: Life) -> bool:
    """Say whether it has failed too often; while it starts nobody answers yet, which says nothing."""
    return life.failures >= FAILED_POLLS_LIMIT and life.state in (State.SUSPECT, State.UNKNOWN)


POLL_INTERVALS_S = {
    State.UNKNOWN: UNKNOWN_POLL_S,
    State.STOPPED: ELSEWHERE_POLL_S,
    State.STARTING: LOADING_POLL_S,
    State.LOADING: LOADING_POLL_S,
    State.READY: POLL_S,
    State.SUSPECT: DOUBT_POLL_S,
    State.FAILED: ELSEWHERE_POLL_S,
}
"""How long after an answer it is asked again; in other states it is not."""


def backoff_s(restarts: int) -> float:
    """Say how long to wait before the next restart: 1 s, doubling to 60 s."""
    return float(min(FIRST_BACKOFF_S * 2 ** min(restarts, 10), LONGEST_BACKOFF_S))


def load_limit_s(load_s: float) -> float:
    """Say how long a load may take before it is given up."""
    return max(LEAST_LOAD_LIMIT_S, LOAD_LIMIT_FACTOR * load_s)
