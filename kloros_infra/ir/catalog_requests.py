"""The resolved rules of requests: who asks, and which hosts answer beside this one."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.requests import Priority, UpstreamKind


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model that only remote hosts serve: there are no weights of it here, and no units."""

    id: str
    name: str
    display_name: str
    kind: ModelKind
    aliases: tuple[str, ...]
    purpose_tags: tuple[str, ...]
    languages: tuple[str, ...]
    context_tokens: int
    cost_tier: CostTier
    data_class: str | None


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a remote host is asked whether it can serve; so many failures in a row take it out."""

    path: str
    interval_s: float
    timeout_s: float
    failures: int


@dataclass(frozen=True, slots=True)
class RemoteHost:
    """A host that answers requests; `models` pairs ids here with names there, and a lower `priority` goes first."""

    name: str
    kind: UpstreamKind
    address: str
    port: int
    path: str
    is_tls: bool
    priority: int
    toggle: str | None
    """A URL that says whether the host may be used."""
    credential: str | None
    health: HealthCheck
    models: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, and what it may ask for; None stands for everything."""

    name: str
    sources: tuple[str, ...]
    credential: str | None
    models: tuple[str, ...] | None
    purposes: tuple[str, ...] | None
    data_class: str | None
    priority: Priority | None
    max_queued: int | None
    requests_per_minute: int | None
