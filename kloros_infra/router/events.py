"""What the router's core is told: each event is one value, and time comes beside it.

Tuples, because several are made for every request.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple

from kloros_infra.ir.requests import Priority
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.query import Query


class Asked(NamedTuple):
    """A request has been read and checked; `tokens` are those of its prompt, `deadline_at` is on the core's clock."""

    id: str
    query: Query
    client: str
    deadline_at: float
    tokens: int = 0
    session: str | None = None
    priority: Priority | None = None


class Left(NamedTuple):
    """Whoever asked has gone away."""

    id: str


class Began(NamedTuple):
    """The first byte of an answer has arrived: from here on nobody else can be asked instead."""

    id: str


class Outcome(Enum):
    """How an attempt ended, as far as the upstream is to be blamed for it."""

    SERVED = "served"
    REFUSED = "refused"
    """The upstream answered 4xx, or 500 to what it may have been asked wrongly: no fault of its."""
    UNREACHED = "unreached"
    """It could not be connected to, or closed before it answered."""
    SILENT = "silent"
    """No first byte in time."""
    UNAVAILABLE = "unavailable"
    """502, 503 or 504."""
    BUSY = "busy"
    """429; `retry_after_s` says when to come again."""
    LOADING = "loading"
    """503, and it says that it still loads its model."""
    STALLED = "stalled"
    """The answer began and then paused too long."""
    BROKEN = "broken"
    """The answer began and broke off, or was not HTTP."""


class Ended(NamedTuple):
    """An attempt is over."""

    id: str
    outcome: Outcome
    retry_after_s: float | None = None


class Verdict(StrEnum):
    """What a health check says."""

    HEALTHY = "healthy"
    LOADING = "loading"
    FAILING = "failing"


class Polled(NamedTuple):
    """A target was asked for its health."""

    target: str
    verdict: Verdict


class Doubted(NamedTuple):
    """A target that has something to answer has been silent for a while: it wants to be polled at once."""

    target: str


class UnitSeen(NamedTuple):
    """The service manager was asked about an instance's unit; `pid` tells one process from the next.

    What is down here was stopped by somebody, or never ran; what failed is told of by `UnitFailed`.
    """

    instance: str
    is_up: bool
    pid: int = 0
    is_stopping: bool = False
    """It is up, and somebody stops it."""


class UnitStarted(NamedTuple):
    """The job that starts an instance's unit is done; llama-server may still be loading."""

    instance: str


class UnitFailed(NamedTuple):
    """An instance did not start, did not stop when it was told to, or ended by itself.

    `last_lines` are of its log. How one is that did not stop is told by the next `UnitSeen`.
    """

    instance: str
    reason: str
    last_lines: tuple[str, ...] = ()


class UnitStopped(NamedTuple):
    """The job that stops an instance's unit is done."""

    instance: str


class TableReplaced(NamedTuple):
    """There is another routing table."""

    table: RoutingTable


class ClosedCard(NamedTuple):
    """A card on which nothing of ours may run; `opens_at` is when that may end, on the core's clock."""

    card: str
    why: str
    opens_at: float | None = None


class CardsStand(NamedTuple):
    """How the cards stand, and with them which profile is active: a switch is one event.

    On a closed card nothing runs; on one that is `ineligible` nothing stays loaded that does not serve.
    """

    profile: str
    closed: tuple[ClosedCard, ...] = ()
    ineligible: tuple[str, ...] = ()
    reason: str = ""
    """Why the profile is active."""


class CardsSeen(NamedTuple):
    """What others than our instances use of each card, in MiB."""

    foreign_mib: tuple[tuple[str, int], ...]


class Toggled(NamedTuple):
    """A remote host's owner has switched it on or off."""

    host: str
    is_enabled: bool


class StartAsked(NamedTuple):
    """An operator wants an instance to run; it stays until it is idle."""

    instance: str


class StopAsked(NamedTuple):
    """An operator wants an instance to stop once its requests are done."""

    instance: str


class Ticked(NamedTuple):
    """Time has passed: something was due."""


Event = (
    Asked
    | Left
    | Began
    | Ended
    | Polled
    | Doubted
    | UnitSeen
    | UnitStarted
    | UnitFailed
    | UnitStopped
    | TableReplaced
    | CardsStand
    | CardsSeen
    | Toggled
    | StartAsked
    | StopAsked
    | Ticked
)
