"""Pass 2 of 4, the part about requests: purposes, clients, what is told, and who answers beside this host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from kloros_infra.compiler.purposes import default_purpose
from kloros_infra.ir.announcements import Announcements
from kloros_infra.ir.catalog import CostTier, Purpose
from kloros_infra.ir.catalog_requests import Client, HealthCheck, RemoteHost, RemoteModel
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import UpstreamSpec
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.config_requests import WhenSpec
from kloros_infra.ir.config_services import ObservabilitySpec
from kloros_infra.ir.requests import Mark, UpstreamKind

REMOTE_COST = CostTier.MEDIUM
"""What a request costs where nothing is known of a model's weights."""


def purposes(config: Config) -> Iterator[Purpose]:
    """Settle what requests may be for."""
    default = default_purpose(config)
    for name, purpose in config.purposes.items():
        yield Purpose(
            name=name,
            candidates=purpose.candidates,
            otherwise=purpose.otherwise,
            is_default=name == default,
            priority=purpose.priority,
            marks=tuple(map(_mark, purpose.when)),
            max_latency_s=purpose.max_latency,
            max_cost_tier=purpose.max_cost_tier,
            can_continue_elsewhere=purpose.continue_elsewhere,
        )


def _mark(spec: WhenSpec) -> Mark:
    return Mark(
        contains=spec.contains,
        model=spec.model,
        sources=spec.source,
        kind=spec.kind,
        has_images=spec.has_images,
        has_tools=spec.has_tools,
        min_tokens=spec.min_tokens,
    )


def clients(config: Config) -> Iterator[Client]:
    """Settle who may ask for what."""
    for name, client in config.policies.clients.items():
        yield Client(
            name=name,
            sources=client.sources,
            credential=client.credential,
            models=client.models,
            purposes=client.purposes,
            data_class=client.data_class,
            priority=client.priority,
            max_queued=client.max_queued,
            requests_per_minute=client.requests_per_minute,
        )


def announcements(spec: ObservabilitySpec) -> Announcements | None:
    """Settle what is said aloud when something changes."""
    if not spec.announce:
        return None
    said = spec.announcements
    return Announcements(said.kinds, said.least_interval, said.urgency, tuple(said.texts.by_news.items()))


def remote_models(config: Config) -> Iterator[RemoteModel]:
    """Settle the models of which nothing is installed here."""
    return (_remote_model(spec) for spec in config.models if not spec.versions)


def _remote_model(spec: ModelSpec) -> RemoteModel:
    return RemoteModel(
        id=spec.id,
        name=spec.unit_name,
        display_name=spec.id if spec.display_name is None else spec.display_name,
        kind=spec.kind,
        aliases=spec.aliases,
        purpose_tags=spec.purpose_tags,
        languages=spec.languages,
        context_tokens=spec.context_tokens,
        cost_tier=spec.cost_tier or REMOTE_COST,
        data_class=spec.data_class,
    )


def remote_hosts(config: Config) -> Iterator[RemoteHost]:
    """Settle which other hosts answer requests."""
    for name, host in config.hosts.items():
        if host.upstream is not None and host.address is not None:
            upstream = host.upstream
            yield RemoteHost(
                name=name,
                kind=upstream.kind,
                address=host.address,
                port=upstream.port,
                path=upstream.path,
                is_tls=upstream.tls,
                priority=upstream.priority,
                toggle=upstream.toggle,
                credential=upstream.credential,
                health=_health(upstream),
                models=tuple(upstream.models.items()),
            )


def _health(upstream: UpstreamSpec) -> HealthCheck:
    spec = upstream.health
    path = health_path(upstream.kind, upstream.path) if spec.path is None else spec.path
    return HealthCheck(path=path, interval_s=spec.interval, timeout_s=spec.timeout, failures=spec.failures)


def health_path(kind: UpstreamKind, path: str) -> str:
    """Say what every server of a kind answers while it can serve; `path` may end with the version of its API."""
    start = path.rstrip("/").removesuffix("/v1")
    match kind:
        case UpstreamKind.LLAMA_CPP:
            return f"{start}/health"
        case UpstreamKind.OLLAMA:
            return f"{start}/api/version"
        case UpstreamKind.OPENAI:
            return f"{start}/v1/models"
        case _ as never:
            assert_never(never)
