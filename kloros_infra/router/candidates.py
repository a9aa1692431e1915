"""List who could answer a query, best first, and why the others could not (design document, section 5.1).

Nothing here depends on what runs, so that the list of a query holds until table or profile change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple, assert_never

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.requests import Priority, UpstreamKind
from kloros_infra.ir.routing import (
    LOCAL_PRIORITY,
    RoutedClient,
    RoutedHost,
    RoutedModel,
    RoutedPersona,
    RoutingTable,
    Upstream,
)
from kloros_infra.router import refusals
from kloros_infra.router.clients import may_see, may_use_model, may_use_purpose
from kloros_infra.router.effects import Target
from kloros_infra.router.meaning import Meaning, Score, meaning, score
from kloros_infra.router.query import Query, Refused


class Obstacle(IntEnum):
    """Why a model cannot serve a query, in the order in which it is asked; a later one is a nearer miss."""

    KIND = 1
    CLIENT = 2
    DATA_CLASS = 3
    PROFILE = 4
    CONTEXT = 5
    COST = 6


OBSTACLE_WORDS = {
    Obstacle.KIND: "wrong kind",
    Obstacle.CLIENT: "not for this client",
    Obstacle.DATA_CLASS: "not for data of this class",
    Obstacle.PROFILE: "not in this profile",
    Obstacle.CONTEXT: "context too small",
    Obstacle.COST: "too costly",
}


class Candidate(NamedTuple):
    """A model that a query means; `targets` by priority, each with context enough; `place` counts from 1.

    `upstream` is its instance under the active profile, `score` is for a purpose; `reason` says why it is chosen where
    nothing that runs says otherwise.
    """

    model: RoutedModel
    upstream: Upstream | None
    targets: tuple[Target, ...]
    place: int
    score: Score | None
    obstacle: Obstacle | None
    reason: str


RANKS = {priority: priority.rank for priority in Priority}
"""A dictionary, as `rank` is asked for every request."""


class Candidates(NamedTuple):
    """All models that a query means, and those that can serve it; there is at least one of each.

    The last three are the purpose's, or the client's and the query's where they say more.
    """

    considered: tuple[Candidate, ...]
    choices: tuple[Candidate, ...]
    words: str
    persona: RoutedPersona | None
    purpose: str | None
    max_latency_s: float | None
    priority: Priority
    can_continue_elsewhere: bool
    least_rank: int = 0
    """No request may claim a more urgent one: that of the client, where models.yaml gives it a priority."""

    def rank(self, claimed: Priority | None) -> int:
        """Say how urgent a request is that claims a priority, or none."""
        rank = RANKS[claimed or self.priority]
        return rank if rank > self.least_rank else self.least_rank


class _Limits(NamedTuple):
    """What a query, its purpose and its client allow together."""

    query: Query
    profile: str
    client: RoutedClient | None
    data_classes: tuple[str, ...]
    cost_tier: CostTier | None


def candidates(
    table: RoutingTable, query: Query, *, profile: str, client: RoutedClient | None = None
) -> Candidates | Refused:
    """List the candidates under a profile, or refuse where none could ever serve; no client may use everything."""
    meant = meaning(table, query, profile=profile)
    if isinstance(meant, Diagnostic):
        return Refused(meant, is_temporary=False)
    if client is not None and meant.purpose is not None and not may_use_purpose(client, meant.purpose):
        return Refused(refusals.purpose_not_allowed(client.name, meant.purpose, client.purposes), is_temporary=False)
    limits = _limits(table, query, meant, profile=profile, client=client)
    found = tuple(_considered(table, meant, limits))
    choices = tuple(candidate for candidate in found if candidate.obstacle is None)
    return _joined(found, choices, meant, limits) if choices else _refused(found, limits)


def considered(
    table: RoutingTable, query: Query, *, profile: str, client: RoutedClient | None = None
) -> tuple[Candidate, ...]:
    """List all that a query means, even where none of them can serve; empty where it means nothing."""
    meant = meaning(table, query, profile=profile)
    if isinstance(meant, Diagnostic):
        return ()
    return tuple(_considered(table, meant, _limits(table, query, meant, profile=profile, client=client)))


def can(model: RoutedModel, kind: ModelKind | None) -> bool:
    """Say whether a model does what is asked for; one that sees chats as well."""
    return model.kind.can_chat if kind is ModelKind.CHAT else kind in (None, model.kind)


def reason(candidate: Candidate, count: int, words: str, skipped: Sequence[tuple[str, str]]) -> str:
    """Say why a candidate is chosen among `count`; `skipped` are the ids before it and why not."""
    if count == 1:
        return f"'{candidate.model.id}' is what {words} means."
    place = f"'{candidate.model.id}' is choice {candidate.place} of {count} for {words}"
    after = ", ".join(f"'{id}' ({why})" for id, why in skipped)
    return f"{place}, after {after}." if after else f"{place}."


def _limits(table: RoutingTable, query: Query, meant: Meaning, *, profile: str, client: RoutedClient | None) -> _Limits:
    tiers = (query.cost_tier, meant.declared.max_cost_tier if meant.declared else None)
    cost_tier = min((tier for tier in tiers if tier is not None), key=lambda tier: tier.rank, default=None)
    return _Limits(query, profile, client, table.policies.data_classes, cost_tier)


def _considered(table: RoutingTable, meant: Meaning, limits: _Limits) -> Iterator[Candidate]:
    """Look at each model in turn."""
    skipped: list[tuple[str, str]] = []
    for place, model in enumerate(meant.models, 1):
        everywhere = tuple(_targets(model, table.hosts, limits.profile))
        wanted = limits.query.min_context_tokens or 0
        targets = tuple(target for target in everywhere if target.context_tokens >= wanted)
        points = score(model, meant.purpose, limits.profile) if meant.purpose is not None else None
        obstacle = _obstacle(model, limits, everywhere, targets)
        candidate = Candidate(model, model.upstream(limits.profile), targets, place, points, obstacle, "")
        if obstacle is not None:
            skipped.append((model.id, OBSTACLE_WORDS[obstacle]))
        yield candidate._replace(reason=reason(candidate, len(meant.models), meant.words, skipped))


def _targets(model: RoutedModel, hosts: Sequence[RoutedHost], profile: str) -> Iterator[Target]:
    """List where a model is served, by priority: its instances, and the hosts that have it."""
    places = [(host.priority, 1, _remote(model, host)) for host in hosts if model.id in host.models]
    # Behind the profile's own comes what another profile has left (definitions.as_running).
    places += [(LOCAL_PRIORITY, 0, _local(upstream)) for upstream in model.upstreams if upstream.profile == profile]
    # This machine first among equals; hosts of one priority stay in the order of models.yaml.
    return (target for _, _, target in sorted(places, key=lambda place: place[:2]))


def _local(upstream: Upstream) -> Target:
    return Target(
        name=upstream.instance,
        kind=UpstreamKind.LLAMA_CPP,
        address=upstream.host,
        port=upstream.port,
        context_tokens=upstream.context_tokens,
    )


def _remote(model: RoutedModel, host: RoutedHost) -> Target:
    return Target(
        name=f"{host.name}/{model.id}",
        kind=host.kind,
        address=host.address,
        port=host.port,
        path=host.path,
        is_tls=host.is_tls,
        asked_as=host.models[model.id],
        credential=host.credential,
        is_local=False,
        context_tokens=model.context_tokens,
    )


def _obstacle(
    model: RoutedModel, limits: _Limits, everywhere: Sequence[Target], targets: Sequence[Target]
) -> Obstacle | None:
    checks = (
        (Obstacle.KIND, can(model, limits.query.kind)),
        (Obstacle.CLIENT, may_use_model(limits.client, model)),
        (Obstacle.DATA_CLASS, may_see(model, limits.client, limits.data_classes)),
        (Obstacle.PROFILE, bool(everywhere)),
        (Obstacle.CONTEXT, bool(targets)),
        (Obstacle.COST, limits.cost_tier is None or model.cost_tier.rank <= limits.cost_tier.rank),
    )
    return next((obstacle for obstacle, is_met in checks if not is_met), None)


def _joined(
    found: tuple[Candidate, ...], choices: tuple[Candidate, ...], meant: Meaning, limits: _Limits
) -> Candidates:
    declared = meant.declared
    latencies = (limits.query.max_latency_s, declared.max_latency_s if declared else None)
    purpose_priority = declared.priority if declared else Priority.INTERACTIVE
    clients_priority = limits.client.priority if limits.client else None
    return Candidates(
        considered=found,
        choices=choices,
        words=meant.words,
        persona=meant.persona,
        purpose=meant.purpose,
        max_latency_s=min((latency for latency in latencies if latency is not None), default=None),
        priority=clients_priority or purpose_priority,
        least_rank=0 if clients_priority is None else clients_priority.rank,
        can_continue_elsewhere=declared is not None and declared.can_continue_elsewhere,
    )


def _refused(found: Sequence[Candidate], limits: _Limits) -> Refused:
    """Refuse for the nearest miss: the models that got furthest say what would have to change."""
    nearest = max(candidate.obstacle for candidate in found if candidate.obstacle is not None)
    models = [candidate.model for candidate in found if candidate.obstacle is nearest]
    return Refused(_problem(nearest, models, limits), is_temporary=False)


def _problem(nearest: Obstacle, models: Sequence[RoutedModel], limits: _Limits) -> Diagnostic:
    client, data_class = (limits.client.name, limits.client.data_class) if limits.client else ("", None)
    match nearest:
        case Obstacle.KIND:
            return refusals.wrong_kind(models, limits.query.kind)
        case Obstacle.CLIENT:
            return refusals.model_not_allowed(client, models)
        case Obstacle.DATA_CLASS:
            return refusals.data_too_sensitive(client, data_class, models)
        case Obstacle.PROFILE:
            return refusals.not_in_profile(models, limits.profile)
        case Obstacle.CONTEXT:
            return refusals.context_too_small(models, limits.query.min_context_tokens, limits.profile)
        case Obstacle.COST:
            return refusals.too_costly(models, limits.cost_tier)
        case _ as never:
            assert_never(never)
