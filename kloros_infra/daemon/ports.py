"""What the two faces of the router (ChemBus, HTTP) need of each other and of the outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError
from kloros_infra.ir.routing import RoutingTable, Upstream
from kloros_infra.router.select import Decision, Query


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole chat answer and how fast it came; times in seconds, from sending the request."""

    text: str
    reasoning: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    duration_s: float
    tokens_per_s: float


class UpstreamError(KlorosError):
    """A llama-server could not be asked, or its answer broke off; carries one KI82x diagnostic."""

    def __init__(self, problem: Diagnostic, *, reached: bool, started: bool) -> None:
        super().__init__((problem,))
        self.problem = problem
        self.reached = reached
        """False when it could not be connected to, or died: it is not to be asked again until it is healthy."""
        self.started = started
        """True when some of the answer had arrived: asking again would answer twice."""


class Directory(Protocol):
    """The owner of routing state (daemon.directory.RoutingDirectory); called on the loop's thread only."""

    @property
    def table(self) -> RoutingTable: ...
    @property
    def profile(self) -> str: ...
    def choose(self, query: Query) -> Decision: ...
    def started(self, upstream: Upstream) -> None:
        """Count a request in flight."""
        ...

    def finished(self, upstream: Upstream, *, reached: bool) -> None:
        """Count it out; `reached` is False when the upstream could not be connected to or died."""
        ...

    def health(self) -> Mapping[str, Any]:
        """Give the `llm.health` payload of the design document, section 7."""
        ...


class Upstreams(Protocol):
    """Calls llama-servers (daemon.upstream.UpstreamPool)."""

    async def complete(self, upstream: Upstream, body: Mapping[str, Any], *, deadline_s: float) -> Completion:
        """Ask for a chat completion; raise UpstreamError with a KI8xx diagnostic."""
        ...

    async def is_ready(self, upstream: Upstream, *, timeout_s: float) -> bool:
        """Ask `GET /health`; False on anything but 200."""
        ...


class Bus(Protocol):
    """A peer on ChemBus (adapters.chembus.BusPeer), subscribed by whoever made it."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send without waiting; the bus loses what nobody takes."""
        ...

    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next message: topic, and payload as sent."""
        ...


class WatchedText(Protocol):
    """A text file that someone else replaces (adapters.watched_file.WatchedFile)."""

    @property
    def name(self) -> str: ...
    def stamp(self) -> object:
        """Give a value that changes when the file is replaced or written; None where there is none."""
        ...

    def read(self) -> str:
        """Read it; raise OSError or UnicodeDecodeError."""
        ...


class Clock(Protocol):
    """Time: `now` never jumps, `epoch_s` is what people and other machines call the time."""

    def now(self) -> float: ...
    def epoch_s(self) -> float: ...
