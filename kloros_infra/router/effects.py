"""What the router's core wants done: each effect is one value, carried out by the daemon with a deadline."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.announcements import News
from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.ir.routing import RoutedModel, RoutedPersona


class Target(NamedTuple):
    """Where a request goes: an instance of this machine, or a model of a remote host.

    `name` is the instance (`code-max`) or `host/model-id`; `asked_as` is what the model is called there, None where
    the request's own bytes may be passed on. `context_tokens` is what a request gets there, 0 where nobody says.
    """

    name: str
    kind: UpstreamKind
    address: str
    port: int
    path: str = ""
    is_tls: bool = False
    asked_as: str | None = None
    credential: str | None = None
    is_local: bool = True
    context_tokens: int = 0


class Send(NamedTuple):
    """Ask a target; no pause of the answer may take `stall_s`, and its first byte is due in `first_byte_s`.

    A whole answer begins when all of it is made: only `left_s`, what the request's deadline leaves, bounds that.
    """

    id: str
    target: Target
    model: RoutedModel
    persona: RoutedPersona | None
    attempt: int
    reason: str
    allocation_id: str
    first_byte_s: float
    stall_s: float
    can_continue: bool = False
    """Whether `Continue` may follow where the answer breaks off: what was said is to be kept for that."""
    left_s: float = 900.0


class Continue(NamedTuple):
    """Ask another target to go on where the answer broke off (purposes that allow it)."""

    send: Send


class Refuse(NamedTuple):
    """Nobody can serve it; `retry_after_s` says when it may be worth asking again."""

    id: str
    problem: Diagnostic
    is_temporary: bool
    retry_after_s: float | None = None
    position: int | None = None
    """The place in line that it would have had, where the line is full."""


class Poll(NamedTuple):
    """Ask a target for its health; whatever comes of it is told."""

    target: Target
    path: str
    timeout_s: float


class StartUnit(NamedTuple):
    """Start an instance's unit."""

    instance: str


class StopUnit(NamedTuple):
    """Stop an instance's unit: nothing is in flight there, or its time to drain is over."""

    instance: str


class RestartUnit(NamedTuple):
    """Restart an instance's unit: it does not answer any more."""

    instance: str


class AllocationChange(StrEnum):
    """What happened to an allocation."""

    CREATED = "created"
    RELEASED = "released"
    EXPIRED = "expired"
    EVICTED = "evicted"


class Allocated(NamedTuple):
    """An allocation began or ended: it is written to the journal and published as `llm.allocation`."""

    change: AllocationChange
    allocation_id: str
    request_id: str
    model_id: str
    profile: str
    target: str
    created_at: float
    ttl_s: float


class Announce(NamedTuple):
    """Say that something has changed: `llm.health` goes out at once, and where it is wanted KLoROS says it aloud."""

    news: News
    subject: str
    reason: str = ""


Effect = Send | Continue | Refuse | Poll | StartUnit | StopUnit | RestartUnit | Allocated | Announce
