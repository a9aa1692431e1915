"""Say why no upstream can serve a query, or may (KI801 to KI809, KI860 to KI865)."""

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


def none_can_serve(whys: Sequence[tuple[str, str]]) -> Diagnostic:
    """Refuse where each target has something against it now."""
    return Diagnostic(
        code="KI809",
        summary="No instance is ready",
        detail=f"None of those that could serve the request can now: {_with_whys(whys)}.",
        hint="`kloros-infra status` shows the units; `kloros-infra route explain` shows how the choice is made.",
    )


def prompt_too_long(tokens: int, targets: Sequence[tuple[str, int]]) -> Diagnostic:
    """Refuse a prompt that fits no target in any vocabulary."""
    name, most = max(targets, key=lambda target: target[1])
    return Diagnostic(
        code="KI807",
        summary="Context too small",
        detail=f"The request has about {tokens} tokens; the best available context is {most} ('{name}').",
        hint="Shorten the request, or ask for a model with more context.",
    )


def unknown_client(source: str | None, known: Iterable[str]) -> Diagnostic:
    """Refuse whoever is no client of models.yaml, where it says so."""
    who = f"'{source}'" if source else "Whoever asks"
    return Diagnostic(
        code="KI860",
        summary="Unknown client",
        detail=f"{who} is no client of models.yaml, and `policies.unknown_clients` refuses all others.",
        hint=f"Send metadata.source_service or a client's key. {_closest(source or '', known, 'sources')}",
    )


def model_not_allowed(client: str, models: Sequence[RoutedModel]) -> Diagnostic:
    """Refuse models that a client may not use."""
    return Diagnostic(
        code="KI861",
        summary="Model not allowed",
        detail=f"Client '{client}' may not use {_ids(models)}.",
        hint=f"Ask for another model, or add it to policies.clients.{client}.models.",
    )


def purpose_not_allowed(client: str, purpose: str, allowed: Sequence[str] | None) -> Diagnostic:
    """Refuse a purpose that a client may not ask for."""
    return Diagnostic(
        code="KI862",
        summary="Purpose not allowed",
        detail=f"Client '{client}' may not ask for the purpose '{purpose}'.",
        hint=f"It may ask for: {_listed(allowed or ())}. Others belong into policies.clients.{client}.purposes.",
    )


def data_too_sensitive(client: str, data_class: str | None, models: Sequence[RoutedModel]) -> Diagnostic:
    """Refuse models that may not see what a client sends."""
    classes = _listed(f"'{model.id}' ({model.data_class})" for model in models)
    return Diagnostic(
        code="KI863",
        summary="Data too sensitive",
        detail=f"The data of client '{client}' is of class {data_class}; {classes} may not see it.",
        hint="Ask for a model that may, or raise the model's `data_class`.",
    )


def too_fast(client: str, per_minute: int) -> Diagnostic:
    """Refuse for now what a client asks beyond its rate."""
    return Diagnostic(
        code="KI864",
        summary="Too many requests a minute",
        detail=f"Client '{client}' may send {per_minute} requests a minute.",
        hint="Wait as long as Retry-After says.",
    )


def line_full_of(client: str, max_queued: int) -> Diagnostic:
    """Refuse for now what a client has waiting beyond its share."""
    return Diagnostic(
        code="KI865",
        summary="Too many requests of one client waiting",
        detail=f"Client '{client}' has {max_queued} requests waiting already, which is all that it may.",
        hint="Wait for an answer before asking more.",
    )


def _closest(asked: str, known: Iterable[str], what: str) -> str:
    names = sorted(set(known))
    close = get_close_matches(asked, names, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Known {what}: {_listed(names)}."


def _with_whys(whys: Sequence[tuple[str, str]]) -> str:
    return _listed(f"'{name}' ({why})" for name, why in whys)


def _ids(models: Sequence[RoutedModel]) -> str:
    return _listed(f"'{model.id}'" for model in models)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
