"""Say why no upstream can serve a query: one function per diagnostic, KI801 to KI809."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.routing import RoutedModel


def unknown_model(asked: str, known: Iterable[str]) -> Diagnostic:
    """Refuse a model that the table does not have."""
    return Diagnostic(
        code="KI801",
        summary="Unknown model",
        detail=f"There is no model '{asked}'.",
        hint=_closest(asked, known, "models"),
    )


def unknown_persona(asked: str, known: Iterable[str]) -> Diagnostic:
    """Refuse a persona that the table does not have."""
    return Diagnostic(
        code="KI802",
        summary="Unknown persona",
        detail=f"There is no persona '{asked}'.",
        hint=_closest(asked, known, "personas"),
    )


def unknown_purpose(asked: str, known: Iterable[str]) -> Diagnostic:
    """Refuse a purpose that is neither declared nor a tag of any model."""
    return Diagnostic(
        code="KI803",
        summary="Unknown purpose",
        detail=f"No purpose is called '{asked}' and no model has that tag.",
        hint=_closest(asked, known, "purposes and tags"),
    )


def nothing_asked(known: Iterable[str]) -> Diagnostic:
    """Refuse a query that names nothing where models.yaml declares no default purpose."""
    return Diagnostic(
        code="KI804",
        summary="Neither model nor purpose",
        detail="The request names no model, persona or purpose, and models.yaml declares no default purpose.",
        hint=f"Name one, or set `default: true` on a purpose. Models: {_listed(known)}.",
    )


def wrong_kind(models: Sequence[RoutedModel], wanted: ModelKind | None) -> Diagnostic:
    """Refuse a chat of an embedding model, pictures for a model that does not see, and so on."""
    return Diagnostic(
        code="KI805",
        summary="Wrong kind of model",
        detail=f"The request needs a model of kind {wanted}; {_ids(models)} cannot do that.",
        hint=f"Name a model of kind {wanted}, or leave the model out.",
    )


def not_in_profile(models: Sequence[RoutedModel], profile: str) -> Diagnostic:
    """Refuse models that have no instance under the active profile."""
    elsewhere = _listed(sorted({upstream.profile for model in models for upstream in model.upstreams}))
    return Diagnostic(
        code="KI806",
        summary="Not in this profile",
        detail=f"{_ids(models)} cannot be served under the active profile '{profile}'.",
        hint=f"Profiles that have it: {elsewhere}. Ask for another model, or give it an instance in '{profile}'.",
    )


def purpose_not_here(purpose: str, profile: str) -> Diagnostic:
    """Refuse a purpose whose candidates are all on other hosts."""
    return Diagnostic(
        code="KI806",
        summary="Not in this profile",
        detail=f"No model on this machine serves the purpose '{purpose}' under the active profile '{profile}'.",
        hint=f"Ask for another purpose, or give one of its candidates an instance in '{profile}'.",
    )


def context_too_small(models: Sequence[RoutedModel], wanted: int | None, profile: str) -> Diagnostic:
    """Refuse models whose context is smaller than the request needs; name the largest there is."""
    best = max(models, key=lambda model: model.context_under(profile))
    tokens = best.context_under(profile)
    return Diagnostic(
        code="KI807",
        summary="Context too small",
        detail=f"The request needs {wanted} tokens of context; the best available is {tokens} ('{best.id}').",
        hint=f"Ask for min_context_tokens of {tokens} or less.",
    )


def too_costly(models: Sequence[RoutedModel], wanted: CostTier | None) -> Diagnostic:
    """Refuse models above the request's cost tier; name the cheapest there is."""
    best = min(models, key=lambda model: model.cost_tier.rank)
    return Diagnostic(
        code="KI808",
        summary="Too costly",
        detail=f"The request allows cost tier {wanted}; the cheapest available is {best.cost_tier} ('{best.id}').",
        hint=f"Allow cost_tier {best.cost_tier}.",
    )


def none_ready(models: Sequence[RoutedModel], profile: str) -> Diagnostic:
    """Refuse for now: the instances exist, and none of them answers."""
    units = [upstream.unit for model in models if (upstream := model.upstream(profile))]
    return Diagnostic(
        code="KI809",
        summary="No instance is ready",
        detail=f"{_listed(units)} could serve the request, but none of them answers now.",
        hint="Try again in a moment; `kloros-infra status` shows the units.",
    )


def _closest(asked: str, known: Iterable[str], what: str) -> str:
    names = sorted(set(known))
    close = get_close_matches(asked, names, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Known {what}: {_listed(names)}."


def _ids(models: Sequence[RoutedModel]) -> str:
    return _listed(f"'{model.id}'" for model in models)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
