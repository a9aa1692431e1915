"""Checks of purposes: the default, fallbacks, and what their candidates can serve (KI216 to KI219, KI250)."""

from __future__ import annotations

from collections.abc import Iterator, Set

from kloros_infra.compiler.check_hosts import remote_models
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.suggest import listed
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import CostTier
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec


def default_purpose(config: Config) -> str | None:
    """Name the purpose of requests that state none: the marked one, or the first."""
    marked = (name for name, purpose in config.purposes.items() if purpose.default)
    return next(marked, next(iter(config.purposes), None))


def check_default(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find more or fewer than one default purpose."""
    purposes = parsed.config.purposes
    marked = [name for name, purpose in purposes.items() if purpose.default]
    for name in marked[1:]:
        problem = Diagnostic(
            code="KI217",
            summary="More than one default purpose",
            detail=f"{name} and {marked[0]} are both marked as the default.",
            hint="Keep `default: true` on one purpose.",
        )
        yield parsed.locate(problem, ("purposes", name, "default"))
    if purposes and not marked:
        problem = Diagnostic(
            code="KI218",
            summary="No default purpose",
            detail=f"No purpose has `default: true`; requests that state none are served as {next(iter(purposes))}.",
            hint="Mark one purpose with `default: true`.",
            severity=Severity.WARNING,
        )
        yield parsed.locate(problem, ("purposes",))


def check_circles(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find purposes that lead back to themselves."""
    known_to_end: set[str] = set()
    for name in parsed.config.purposes:
        path = _path(name, parsed.config, known_to_end)
        known_to_end.update(path)
        following = parsed.config.purposes[path[-1]].otherwise if path else None
        if following is not None and following in path:
            circle = path[path.index(following) :]
            problem = Diagnostic(
                code="KI216",
                summary="Purposes in a circle",
                detail=f"`otherwise` leads back to where it began: {' → '.join((*circle, following))}.",
                hint="Take `otherwise` out of one of them.",
            )
            yield parsed.locate(problem, ("purposes", following, "otherwise"))


def _path(name: str, config: Config, known: Set[str]) -> list[str]:
    """Follow `otherwise` from a purpose until it ends, comes back, or comes to one that is known."""
    path: dict[str, None] = {}
    following: str | None = name
    while following in config.purposes and following not in path and following not in known:
        path[following] = None
        following = config.purposes[following].otherwise
    return list(path)


def check_reach(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find profiles under which a purpose has no model at all."""
    config = parsed.config
    everywhere = frozenset(config.profiles)
    serving = {model.id: _profiles_of(model, everywhere) for model in config.models}
    serving |= dict.fromkeys(remote_models(config), everywhere)
    reached: dict[str, frozenset[str]] = {}
    for name in config.purposes:
        # The end of the path first: what it reaches, those before it reach as well; in a circle, all reach the same.
        for purpose in reversed(_path(name, config, reached.keys()) * 2):
            spec = config.purposes[purpose]
            # Names that nothing declares are told elsewhere; what they were to reach is not known.
            own = (serving.get(model, everywhere) for model in spec.candidates)
            is_known = spec.otherwise is None or spec.otherwise in config.purposes
            further = reached.get(spec.otherwise or "", frozenset()) if is_known else everywhere
            reached[purpose] = frozenset().union(*own, further)
    for name in config.purposes:
        missed = [profile for profile in config.profiles if profile not in reached[name]]
        if missed:
            yield parsed.locate(_out_of_reach(name, missed), ("purposes", name), at_key=True)


def _profiles_of(model: ModelSpec, everywhere: frozenset[str]) -> frozenset[str]:
    """Name the profiles under which a model runs; all of them where it names one that nothing declares."""
    running = frozenset(name for name, instance in model.profiles.items() if instance)
    return running if everywhere.issuperset(model.profiles) else everywhere


def check_costs(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find purposes whose candidates all cost more than they allow."""
    # What a model without a tier costs is known once its weights are.
    tiers = {model.id: model.cost_tier for model in parsed.config.models}
    for name, purpose in parsed.config.purposes.items():
        costs = [tier for model in purpose.candidates if (tier := tiers.get(model)) is not None]
        if purpose.max_cost_tier is not None and len(costs) == len(purpose.candidates):
            least = min(costs, key=lambda tier: tier.rank)
            if least.rank > purpose.max_cost_tier.rank:
                problem = _too_costly(name, purpose.max_cost_tier, least)
                yield parsed.locate(problem, ("purposes", name, "max_cost_tier"))


def _out_of_reach(purpose: str, profiles: list[str]) -> Diagnostic:
    return Diagnostic(
        code="KI219",
        summary="Purpose out of reach",
        detail=f"Under {listed(profiles)} no candidate of {purpose} runs, nor one of what it falls back to.",
        hint="Give a candidate a port there, or say `otherwise:` with a purpose that has one.",
        severity=Severity.WARNING,
    )


def _too_costly(purpose: str, limit: CostTier, least: CostTier) -> Diagnostic:
    return Diagnostic(
        code="KI250",
        summary="Candidates above the cost limit",
        detail=f"{purpose} allows a cost of {limit} at most, and the cheapest of its candidates costs {least}: every"
        " request would be refused.",
        hint=f"Raise `max_cost_tier` to {least}, or add a candidate of tier {limit}.",
    )
