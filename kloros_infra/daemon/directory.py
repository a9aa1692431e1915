"""Own the routing state: the table, the active profile, and what is known of each upstream.

Called on the loop's thread only, so that nothing here waits and nothing needs a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kloros_infra.daemon.ports import Clock
from kloros_infra.ir.routing import RoutedModel, RoutingTable, Upstream
from kloros_infra.router.readiness import Readiness, UpstreamState, newly_seen, on_poll, on_unreached
from kloros_infra.router.select import Decision, Query, Selected, select

# llm.health says what a reader of the design document expects (section 7).
STATUS_WORDS = {Readiness.UNKNOWN: "unknown", Readiness.READY: "healthy", Readiness.UNREADY: "unhealthy"}

# Few names can be chosen by, but the bus also asks by numbers: what is remembered has a bound.
REMEMBERED_DECISIONS = 1024

Place = tuple[str, str, int]
"""An upstream as far as its state goes: instance, host, port."""


class RoutingDirectory:
    """Implements `daemon.ports.Directory`; `changed` is set whenever `health` would say something else."""

    def __init__(self, table: RoutingTable, *, profile: str, clock: Clock) -> None:
        self._clock = clock
        self._table = table
        self._profile = profile
        self._states: dict[Place, UpstreamState] = {}
        self._served: dict[Place, tuple[RoutedModel, Upstream]] = {}
        self._in_flight: dict[Place, int] = {}
        self._ready: frozenset[str] = frozenset()
        self._selected: dict[Query, Selected] = {}
        self.changed = asyncio.Event()
        self._serve_anew()

    @property
    def table(self) -> RoutingTable:
        return self._table

    @property
    def profile(self) -> str:
        return self._profile

    def choose(self, query: Query) -> Decision:
        """Select among the instances that are ready now."""
        known = self._selected.get(query)
        if known is not None:
            return known
        decision = select(self._table, query, profile=self._profile, ready=self._ready)
        # A refusal is not remembered: it may be of any name, as long as a stranger likes.
        if isinstance(decision, Selected):
            if len(self._selected) >= REMEMBERED_DECISIONS:
                self._selected.clear()
            self._selected[query] = decision
        return decision

    def started(self, upstream: Upstream) -> None:
        """Count a request in flight; one of an upstream that has left the table changes nothing."""
        place = _place(upstream)
        count = self._in_flight.get(place)
        if count is not None:
            self._in_flight[place] = count + 1

    def finished(self, upstream: Upstream, *, reached: bool) -> None:
        """Count it out; an upstream that could not be reached gets no more until it is healthy."""
        place = _place(upstream)
        count = self._in_flight.get(place)
        if count is None:
            return
        left = self._in_flight[place] = max(0, count - 1)
        if not reached:
            self._become(place, on_unreached(self._states[place], now=self._clock.now()))
        if not left and place not in self._served:
            del self._in_flight[place], self._states[place]  # the last request of an upstream that has left the table

    def polled(self, upstream: Upstream, *, is_healthy: bool) -> None:
        """Take in the answer to a health poll; one of an upstream that has left the table changes nothing."""
        place = _place(upstream)
        before = self._states.get(place)
        if before is not None:
            self._become(place, on_poll(before, is_healthy=is_healthy, now=self._clock.now()))

    def due(self) -> tuple[Upstream, ...]:
        """List the upstreams of the active profile that are to be polled now."""
        now = self._clock.now()
        return tuple(
            upstream for place, (_, upstream) in self._served.items() if self._states[place].next_poll_at <= now
        )

    def replace_table(self, table: RoutingTable) -> None:
        """Route by a new table; what stays where it is keeps its readiness and its requests in flight."""
        self._table = table
        self._serve_anew()

    def set_profile(self, profile: str) -> None:
        """Serve from another profile's instances; those of the old one finish what they have."""
        if profile != self._profile:
            self._profile = profile
            self._serve_anew()

    def health(self) -> Mapping[str, Any]:
        """Give the `llm.health` payload of the design document, section 7; its "profile" is our instance."""
        now = self._clock.now()
        at = datetime.fromtimestamp(self._clock.epoch_s(), UTC)
        runtimes = [
            _runtime(model, upstream, self._states[place], now=now) | {"active_requests": self._in_flight[place]}
            for place, (model, upstream) in self._served.items()
        ]
        return {
            "timestamp": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "runtimes": runtimes,
            "gpu_profile": self._profile,
        }

    def _become(self, place: Place, after: UpstreamState) -> None:
        """Take on an upstream's new state."""
        before, self._states[place] = self._states[place], after
        if after.readiness is not before.readiness:
            self._note_ready()

    def _serve_anew(self) -> None:
        """Find what the table serves under the profile; keep states, drop what left it with nothing in flight."""
        now = self._clock.now()
        found = ((model, model.upstream(self._profile)) for model in self._table.models)
        self._served = {_place(upstream): (model, upstream) for model, upstream in found if upstream is not None}
        kept = {
            place: state for place, state in self._states.items() if place in self._served or self._in_flight[place]
        }
        self._states = kept | {place: newly_seen(now) for place in self._served if place not in kept}
        self._in_flight = {place: self._in_flight.get(place, 0) for place in self._states}
        self._note_ready()

    def _note_ready(self) -> None:
        """Select anew from here on: what was selected holds until table, profile or readiness change."""
        self._ready = frozenset(place[0] for place in self._served if self._states[place].is_ready)
        self._selected.clear()
        self.changed.set()


def _place(upstream: Upstream) -> Place:
    return upstream.instance, upstream.host, upstream.port


def _runtime(model: RoutedModel, upstream: Upstream, state: UpstreamState, *, now: float) -> dict[str, Any]:
    return {
        "profile": upstream.instance,
        "status": STATUS_WORDS[state.readiness],
        "model_id": model.id,
        "port": upstream.port,
        "uptime_seconds": round(now - state.since) if state.is_ready else 0,
    }
