"""Checks of purposes and personas against the models that serve them (KI215 to KI219)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.config import Config


def default_purpose(config: Config) -> str | None:
    """Name the purpose of requests that state none: the marked one, or the first."""
    marked = (name for name, purpose in config.purposes.items() if purpose.default)
    return next(marked, next(iter(config.purposes), None))


def check_personas(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find personas over models that cannot chat."""
    kinds = {model.id: model.kind for model in parsed.config.models}
    for index, persona in enumerate(parsed.config.personas):
        if kinds.get(persona.base_model) is ModelKind.EMBEDDING:
            problem = Diagnostic(
                code="KI215",
                summary="Persona over an embedding model",
                detail=f"{persona.base_model} gives embeddings; {persona.id} needs a model that chats.",
                hint="Choose a base_model of kind chat.",
            )
            yield parsed.locate(problem, ("personas", index, "base_model"))


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
    reported: set[str] = set()
    for name in parsed.config.purposes:
        chain = _chain(name, parsed.config)
        if name not in reported and parsed.config.purposes[chain[-1]].otherwise == name:
            reported.update(chain)
            problem = Diagnostic(
                code="KI216",
                summary="Purposes in a circle",
                detail=f"`otherwise` leads back to where it began: {' → '.join((*chain, name))}.",
                hint="Take `otherwise` out of one of them.",
            )
            yield parsed.locate(problem, ("purposes", name, "otherwise"))


def _chain(name: str, config: Config) -> tuple[str, ...]:
    """Follow `otherwise` from a purpose until it ends or comes back."""
    chain = [name]
    following = config.purposes[name].otherwise
    while following in config.purposes and following not in chain:
        chain.append(following)
        following = config.purposes[following].otherwise
    return tuple(chain)


def check_reach(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find profiles under which a purpose has no model at all."""
    config = parsed.config
    serving = {model.id: {name for name, instance in model.profiles.items() if instance} for model in config.models}
    for name in config.purposes:
        candidates = [model for purpose in _chain(name, config) for model in config.purposes[purpose].candidates]
        reached = set().union(*(serving.get(model, set()) for model in candidates))
        missed = [profile for profile in config.profiles if profile not in reached]
        if missed:
            problem = Diagnostic(
                code="KI219",
                summary="Purpose out of reach",
                detail=f"Under {', '.join(missed)} no candidate of {name} runs, nor one of what it falls back to.",
                hint="Give a candidate a port there, or say `otherwise:` with a purpose that has one.",
                severity=Severity.WARNING,
            )
            yield parsed.locate(problem, ("purposes", name), at_key=True)
