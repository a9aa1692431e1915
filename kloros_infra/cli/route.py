"""`route explain`: decide as the router would, from a routing table alone; what runs is supposed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.cli.active_profile import profile_by_table
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compile_project
from kloros_infra.daemon.files import read_table
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import text_of
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutedClient, RoutingTable
from kloros_infra.planner.selection import unknown_name
from kloros_infra.router.clients import Clients
from kloros_infra.router.effects import Target
from kloros_infra.router.explain import Explanation, Situation, explain
from kloros_infra.router.marks import Traits, by_marks
from kloros_infra.router.query import Query
from kloros_infra.router.select import Ask, Standing
from kloros_infra.router.tokens import estimate_tokens


@dataclass(frozen=True, slots=True)
class Supposed:
    """A request as the command line describes it, and what is supposed of the machine."""

    purpose: str | None = None
    model: str | None = None
    persona: str | None = None
    kind: ModelKind = ModelKind.CHAT
    min_context_tokens: int | None = None
    cost_tier: CostTier | None = None
    max_latency_s: float | None = None
    language: str | None = None
    prompt: str = ""
    tokens: int | None = None
    source: str | None = None
    client: str | None = None
    profile: str | None = None
    down: tuple[str, ...] = ()


def table_to_explain(root: Path, file: Path | None) -> tuple[RoutingTable, str]:
    """Give the table that is installed below a root, or that a models.yaml compiles to, and its profile.

    Raise ProblemsError where there is none. What is compiled is explained under its best profile.
    """
    layout = Layout()
    if file is not None:
        compiled = compile_project(read_project(file))
        table = RoutingTable.model_validate_json(text_of(compiled.tree[layout.routing]))
        return table, table.profile_names[0]
    routing = root / layout.routing
    table = _installed(routing)
    named = _written_profile(Path(table.profile_file))
    if named in table.profile_names:
        return table, named
    return table, profile_by_table(routing)[1][0]


def explained(table: RoutingTable, profile: str, supposed: Supposed) -> Explanation:
    """Decide; raise ProblemsError for names that the table does not have, and for a client that is refused."""
    client = _client(table, supposed)
    tokens = estimate_tokens({"prompt": supposed.prompt}) if supposed.tokens is None else supposed.tokens
    query = by_marks(table, _query(supposed), _traits(supposed, tokens), client)
    wanted = supposed.profile or profile
    if wanted not in table.profile_names:
        raise ProblemsError([unknown_name(wanted, table.profile_names, kind="profile")])
    standing = partial(_standing, down=_down(table, wanted, supposed.down))
    return explain(table, query, Situation(wanted, standing, client, Ask(tokens)))


def _standing(target: Target, *, down: frozenset[str]) -> Standing:
    """Suppose that everything is ready but what is said to be down."""
    if target.name in down:
        return Standing(target.name, "supposed to be down", why_not="down")
    return Standing(target.name, "supposed to be ready")


def _installed(routing: Path) -> RoutingTable:
    table = read_table(WatchedFile(routing))
    if isinstance(table, Diagnostic):
        raise ProblemsError([table])
    return table


def _written_profile(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _query(supposed: Supposed) -> Query:
    return Query(
        kind=supposed.kind,
        purpose=supposed.purpose,
        model=supposed.model,
        persona=supposed.persona,
        min_context_tokens=supposed.min_context_tokens,
        cost_tier=supposed.cost_tier,
        language=supposed.language,
        max_latency_s=supposed.max_latency_s,
    )


def _traits(supposed: Supposed, tokens: int) -> Traits:
    return Traits(
        last_message=supposed.prompt,
        model=supposed.model,
        source=supposed.source,
        kind=supposed.kind,
        has_images=supposed.kind is ModelKind.VISION,
        tokens=tokens,
    )


def _client(table: RoutingTable, supposed: Supposed) -> RoutedClient | None:
    clients = Clients(table.policies)
    if supposed.client is not None:
        client = clients.named(supposed.client)
        if client is None:
            names = (known.name for known in table.policies.clients)
            raise ProblemsError([unknown_name(supposed.client, names, kind="client")])
        return client
    client = clients.of(supposed.source)
    refusal = clients.refusal(client, supposed.source)
    if refusal is not None:
        raise ProblemsError([refusal])
    return client


def _down(table: RoutingTable, profile: str, asked: Iterable[str]) -> frozenset[str]:
    """Find what is meant to be down: an instance, a remote host with all of its models, or one of these."""
    meant = dict(_targets(table, profile))
    unknown = [name for name in asked if name not in meant]
    if unknown:
        raise ProblemsError([unknown_name(name, meant, kind="instance or host") for name in unknown])
    return frozenset(target for name in asked for target in meant[name])


def _targets(table: RoutingTable, profile: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for model in table.models:
        upstream = model.upstream(profile)
        if upstream is not None:
            yield upstream.instance, (upstream.instance,)
    for host in table.hosts:
        names = tuple(f"{host.name}/{model}" for model in host.models)
        yield host.name, names
        yield from ((name, (name,)) for name in names)
