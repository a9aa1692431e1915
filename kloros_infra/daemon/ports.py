"""What the two faces of the router (ChemBus, HTTP) need of each other and of the outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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
