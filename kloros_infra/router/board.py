"""What the core knows of each target and of each request: two records, changed by the core alone.

They are changed in place, as several are touched for every request; the parts that decide are frozen values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.ir.routing import RoutedHost, RoutedModel, Upstream
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router import breaker as breakers
from kloros_infra.router.breaker import Breaker
from kloros_infra.router.candidates import Candidates
from kloros_infra.router.cards import Bar
from kloros_infra.router.effects import Effect, Target
from kloros_infra.router.events import Asked
from kloros_infra.router.instance import Life, State, backoff_s
from kloros_infra.router.lease import Lease
from kloros_infra.router.select import Chosen

REMOTE_LIMIT = 8
"""Requests at a time that a remote host's model is given, unless it says that it is busy."""
NEWEST_WEIGHT = 0.2
"""How much the newest request counts in what is expected of the next."""
FIRST_EACH_S = 5.0
"""How long a request is expected to take before any has been seen."""
CLOSED = Breaker()
NOWHERE: Mapping[str, Chosen] = MappingProxyType({})

Effects = list[Effect]


@dataclass(slots=True, eq=False)
class Station:
    """A target: what goes to it at a time, and what came of it; `is_open` while it may be given requests."""

    name: str
    model_id: str
    limit: int
    is_open: bool = False
    stands_in: bool = False
    """It is not active, and serves nevertheless as long as it may stay."""
    breaker: Breaker = CLOSED
    flights: set[str] = field(default_factory=set)
    each_s: float = FIRST_EACH_S
    prefill_tokens_per_s: float | None = None
    said: object = None
    """What `has_news` has seen last."""
    broken_at: float = 0.0
    """When it last failed a request that was sent after what was known of it before."""

    def takes(self, now: float) -> bool:
        """Say whether it can be given a request at once."""
        if not self.is_open or len(self.flights) >= self.limit:
            return False
        return self.breaker is CLOSED or breakers.passes(self.breaker, now)

    def says(self) -> object:
        """Say what of it others are told when it changes."""
        return self.is_open

    def has_news(self) -> bool:
        """Say whether that has changed since it was last asked."""
        before, self.said = self.said, self.says()
        return before != self.said

    def note_seconds(self, seconds: float) -> None:
        """Take in how long a request took."""
        self.each_s += NEWEST_WEIGHT * (seconds - self.each_s)

    def note_prefill(self, tokens_per_s: float) -> None:
        """Take in how fast a prompt was read."""
        before = self.prefill_tokens_per_s
        self.prefill_tokens_per_s = tokens_per_s if before is None else before + NEWEST_WEIGHT * (tokens_per_s - before)


@dataclass(slots=True, eq=False, kw_only=True)
class Local(Station):
    """An instance of this machine; its `upstream` is as the table defines it, its `life` as it is."""

    upstream: Upstream
    group: str | None
    life: Life
    is_listed: bool = True
    """Whether the table has it."""
    is_active: bool = False
    """Whether table and profile want it to serve."""
    bar: Bar | None = None
    """What keeps it from running, whatever wants it to."""
    may_stay: bool = True
    """Whether its cards let it keep its memory though it is not active, for as long as nobody needs it."""
    left_at: float = 0.0
    """Since when it is not active."""
    is_yielding: bool = False
    """It gets no more requests until another, whose requests have waited long enough, has had its turn."""
    is_doubted: bool = False
    """It is polled without a pause until it answers."""
    idle_since: float = 0.0
    restart_at: float = 0.0
    drain_until: float = 0.0
    is_stop_asked: bool = False
    """An operator wants it to stop; it may be started again when a request wants it."""
    is_given_up: bool = False
    """It was stopped because it did not become ready in time."""
    successor: Upstream | None = None
    """How it is defined once the process that runs has ended."""
    appeared_at: float = float("-inf")
    """When a process was there that somebody else has started."""
    left_from: State = State.DRAINING
    """What it was when it began to stop."""
    is_stop_ordered: bool = False
    """The end of an order to stop it is awaited."""
    stop_at: float = 0.0
    """It is not ordered to stop sooner, as it did not when it was."""
    stop_failures: int = 0
    no_room: str | None = None
    """Why it cannot be started, whatever stops."""
    stopped_for: StopCause | None = None
    """Why this router has stopped it, or has not started it yet; None where somebody else stopped it."""

    def says(self) -> object:
        return self.life.state, self.is_active, self.bar

    @property
    def must_leave(self) -> bool:
        """Say whether it is to give its memory back now, whoever else could use it."""
        return self.bar is not None or not (self.is_active or (self.is_listed and self.may_stay))

    def reopen(self) -> None:
        """Work out anew whether it may be given requests."""
        state = self.life.state
        self.stands_in = not self.is_active and not self.must_leave and state in (State.READY, State.SUSPECT)
        self.is_open = state is State.READY and not self.must_leave and not self.is_yielding

    def count_restart(self, now: float) -> None:
        """Note that it is started anew, and how long to wait before it is again."""
        self.restart_at = now + backoff_s(self.life.restarts)
        self.life = self.life._replace(restarts=self.life.restarts + 1)

    def count_failed_stop(self, now: float) -> None:
        """Note that it did not stop when it was told to, and how long to wait before it is told again."""
        self.is_stop_ordered = False
        self.stop_at = now + backoff_s(self.stop_failures)
        self.stop_failures += 1

    def redefine(self, upstream: Upstream) -> None:
        """Take over how it is defined."""
        self.upstream, self.successor = upstream, None
        self.limit = max(1, upstream.parallel)
        self.life = self.life._replace(definition=upstream.definition)

    def poll_target(self) -> Target:
        """Say where it is asked for its health."""
        return Target(self.name, UpstreamKind.LLAMA_CPP, self.upstream.host, self.upstream.port)


@dataclass(slots=True, eq=False, kw_only=True)
class Remote(Station):
    """A model of a remote host."""

    host: RoutedHost


class Request:
    """A request from its asking to its end: where it waits (`line`), or where it was sent (`station`).

    Defaults are the class's: one is made for every request, and most change few of them.
    """

    line: str = ""
    """The model in whose line it waits."""
    ways: Mapping[str, Chosen] = NOWHERE
    """Where it may go from its line, by the station's name."""
    station: Station | None = None
    allocation_id: str = ""
    """Empty before and after it is lent anything."""
    lease: Lease | None = None
    """Its allocation, once it has been told of."""
    attempt: int = 0
    tried: frozenset[str] = frozenset()
    sent_at: float = 0.0
    has_begun: bool = False
    is_probe: bool = False
    is_spared: bool = False
    """It fell with others in one failure of its target: its next attempt is no retry that the budget counts."""

    def __init__(self, asked: Asked, found: Candidates, rank: int, asked_at: float) -> None:
        self.asked = asked
        self.found = found
        self.rank = rank
        self.asked_at = asked_at


Waiting = Callable[[str], int]
"""How many requests wait for a model."""


def a_local(upstream: Upstream, model: RoutedModel, life: Life) -> Local:
    """Begin to know an instance."""
    return Local(
        upstream.instance,
        model.id,
        max(1, upstream.parallel),
        upstream=upstream,
        group=model.group,
        life=life,
        idle_since=life.since,
        left_at=life.since,
    )


def a_remote(host: RoutedHost, model_id: str) -> Remote:
    """Begin to know a model of a remote host; it may be asked until its host's health says otherwise."""
    return Remote(remote_name(host, model_id), model_id, REMOTE_LIMIT, is_open=True, host=host)


def remote_name(host: RoutedHost, model_id: str) -> str:
    """Name a model of a remote host as a target."""
    return f"{host.name}/{model_id}"
