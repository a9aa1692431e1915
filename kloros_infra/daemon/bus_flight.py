"""A request of the bus between its arrival and its answer, and what it says in the words of the desk."""

from __future__ import annotations

from typing import Any, Protocol

from kloros_infra.daemon.bus_reply import Outcome
from kloros_infra.daemon.bus_request import BusRequest
from kloros_infra.ir.messages import LlmRequest
from kloros_infra.router.query import Query

Client = bytes | None
"""A client of the direct endpoint, or the bus, on which everybody hears everything."""


class Face(Protocol):
    """Whoever sends what a request comes to (daemon.bus_face.BusFace)."""

    def send_chunk(self, flight: Flight, seq: int, text: str) -> None:
        """Send a piece of an answer to all who asked."""
        ...

    def answer(self, flight: Flight, outcome: Outcome) -> None:
        """Send the answer to all who asked."""
        ...


class Flight:
    """One request between its arrival and its answer, and all who asked for it."""

    __slots__ = ("_face", "askers", "chunks", "incident_id", "key", "request", "request_id", "started_at", "trace")

    def __init__(self, face: Face, key: str, request_id: str, asker: tuple[Client, float]) -> None:
        client, now = asker
        self._face = face
        self.key = key
        self.request_id = request_id
        self.incident_id: str | None = None
        self.trace: str | None = None
        self.askers: list[Client] = [client]
        self.request: BusRequest | None = None
        self.started_at = now
        self.chunks: int | None = None

    # Implements `daemon.bus_request.Waiter`.

    def on_delta(self, text: str) -> None:
        """Send a piece of the answer; each has an incident id of its own, for KLoROS's de-duplication goes by that."""
        seq = self.chunks or 0
        self.chunks = seq + 1
        self._face.send_chunk(self, seq, text)

    def on_outcome(self, outcome: Outcome) -> None:
        """Send the answer."""
        self._face.answer(self, outcome)


def query_of(request: LlmRequest) -> Query:
    """Say what may answer."""
    constraints = request.constraints
    max_latency_s = None if constraints.max_latency_ms is None else constraints.max_latency_ms / 1000
    return Query(
        purpose=request.purpose,
        model=request.model or None,
        persona=request.persona or None,
        min_context_tokens=constraints.min_context_tokens,
        cost_tier=constraints.cost_tier,
        language=request.language,
        max_latency_s=max_latency_s,
    )


def traits_of(request: LlmRequest) -> dict[str, Any]:
    """Give what a purpose can be told by; what metadata must be is nowhere said, so it may be anything."""
    metadata = request.metadata if isinstance(request.metadata, dict) else None
    return {"messages": [{"content": request.prompt[-1].content}], "metadata": metadata}
