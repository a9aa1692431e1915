"""Choose the upstream for a request (design document, section 5.1).

A query names a model, a persona or a purpose; that gives an ordered list of choices, and the first
choice without an obstacle serves. Nothing here is random and nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, assert_never

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.routing import RoutedModel, RoutedPersona, RoutingTable, Upstream
from kloros_infra.router import refusals


class Query(NamedTuple):
    """What a request says about the model it wants; a named model or persona outranks the purpose.

    No kind stands for any. A tuple, because one is made and looked up for every request.
    """

    kind: ModelKind | None = ModelKind.CHAT
    purpose: str | None = None
    model: str | None = None
    persona: str | None = None
    min_context_tokens: int | None = None
    cost_tier: CostTier | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """The upstream to call, and why it was chosen."""

    model: RoutedModel
    upstream: Upstream
    persona: RoutedPersona | None
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No upstream can serve it; `is_temporary` when a healthy one would."""

    problem: Diagnostic
    is_temporary: bool


Decision = Selected | Refused


@dataclass(frozen=True, slots=True)
class Choices:
    """Models that the query means, best first, and the words that say why they are meant."""

    models: tuple[RoutedModel, ...]
    persona: RoutedPersona | None
    meaning: str


class Obstacle(IntEnum):
    """Why a choice cannot serve, in the order in which it is asked; a later one is a nearer miss."""

    KIND = 1
    PROFILE = 2
    CONTEXT = 3
    COST = 4
    READINESS = 5


OBSTACLE_WORDS = {
    Obstacle.KIND: "wrong kind",
    Obstacle.PROFILE: "not in this profile",
    Obstacle.CONTEXT: "context too small",
    Obstacle.COST: "too costly",
    Obstacle.READINESS: "not ready",
}


def select(table: RoutingTable, query: Query, *, profile: str, ready: Set[str]) -> Decision:
    """Choose among the ready instances (by instance name) of the active profile."""
    choices = _choices(table, query, profile)
    if isinstance(choices, Diagnostic):
        return Refused(choices, is_temporary=False)
    passed_over: list[tuple[RoutedModel, Obstacle]] = []
    for model in choices.models:
        found = _upstream(model, query, profile, ready)
        if isinstance(found, Upstream):
            return Selected(model, found, choices.persona, _reason(model, choices, passed_over))
        passed_over.append((model, found))
    return _refused(passed_over, query, profile)


def is_same_name(asked: str, known: str) -> bool:
    """Compare model names as Ollama does: `name` and `name:latest` are one."""
    return asked.removesuffix(":latest") == known.removesuffix(":latest")


def _choices(table: RoutingTable, query: Query, profile: str) -> Choices | Diagnostic:
    if query.persona is not None:
        return _persona_choices(table, query.persona, query.model)
    if query.model is not None:
        return _model_choices(table, query.model)
    purpose = query.purpose or next((purpose.name for purpose in table.purposes if purpose.is_default), None)
    if purpose is None:
        return refusals.nothing_asked(model.id for model in table.models)
    models = _purpose_models(table, purpose, profile)
    if not models and any(declared.name == purpose for declared in table.purposes):
        return refusals.purpose_not_here(purpose, profile)
    if not models:
        tags = (tag for model in table.models for tag in model.purpose_tags)
        return refusals.unknown_purpose(purpose, [*(declared.name for declared in table.purposes), *tags])
    words = f"purpose '{purpose}'" if query.purpose else f"the default purpose '{purpose}'"
    return Choices(models, None, words)


def _persona_choices(table: RoutingTable, asked: str, model_name: str | None) -> Choices | Diagnostic:
    persona = _find_persona(table.personas, asked)
    if persona is None:
        return refusals.unknown_persona(asked, _persona_names(table))
    # A request may try a persona on another model than its own.
    choices = _model_choices(table, model_name if model_name is not None else persona.model_id)
    if isinstance(choices, Diagnostic):
        return choices
    return Choices(choices.models, persona, f"{choices.meaning} under persona '{persona.id}'")


def _model_choices(table: RoutingTable, asked: str) -> Choices | Diagnostic:
    model = _find_model(table.models, asked)
    if model is not None:
        return Choices((model,), None, f"the name '{asked}'")
    if _find_persona(table.personas, asked) is not None:
        return _persona_choices(table, asked, None)
    names = (name for known in table.models for name in (known.id, known.name, *known.aliases))
    return refusals.unknown_model(asked, [*names, *_persona_names(table)])


def _find_persona(personas: Sequence[RoutedPersona], asked: str) -> RoutedPersona | None:
    """Find a persona by id, then by alias."""
    by_id = (persona for persona in personas if is_same_name(asked, persona.id))
    by_alias = (persona for persona in personas if any(is_same_name(asked, alias) for alias in persona.aliases))
    return next(by_id, None) or next(by_alias, None)


def _persona_names(table: RoutingTable) -> Iterator[str]:
    return (name for persona in table.personas for name in (persona.id, *persona.aliases))


def _find_model(models: Sequence[RoutedModel], asked: str) -> RoutedModel | None:
    """Find a model by id, then by name, then by alias, so that an alias never hides an id."""
    by_id = (model for model in models if is_same_name(asked, model.id))
    by_name = (model for model in models if is_same_name(asked, model.name))
    by_alias = (model for model in models if any(is_same_name(asked, alias) for alias in model.aliases))
    return next(by_id, None) or next(by_name, None) or next(by_alias, None)


def _purpose_models(table: RoutingTable, purpose: str, profile: str) -> tuple[RoutedModel, ...]:
    """List a purpose's models best first: candidates, then those of each `otherwise`; else by tag."""
    by_id = {model.id: model for model in table.models}
    declared = {known.name: known for known in table.purposes}
    found: dict[str, RoutedModel] = {}
    visited: set[str] = set()
    name: str | None = purpose
    while name is not None and name not in visited:
        visited.add(name)
        known = declared.get(name)
        if known is None:
            models = _tagged(table.models, name, profile)
        else:
            models = [by_id[candidate] for candidate in known.candidates if candidate in by_id]
        for model in models:
            found.setdefault(model.id, model)
        name = known.otherwise if known else None
    return tuple(found.values())


def _tagged(models: Iterable[RoutedModel], tag: str, profile: str) -> list[RoutedModel]:
    """Order models that have a tag by the design document's score, then as in models.yaml."""
    tagged = (model for model in models if tag in model.purpose_tags)
    return sorted(tagged, key=lambda model: -_score(model, tag, profile))


def _score(model: RoutedModel, tag: str, profile: str) -> float:
    specialist = 10 if model.purpose_tags[0] == tag else 5
    return specialist + model.context_under(profile) / 10_000 - 2 * model.cost_tier.rank


def _upstream(model: RoutedModel, query: Query, profile: str, ready: Set[str]) -> Upstream | Obstacle:
    if not _can(model, query.kind):
        return Obstacle.KIND
    upstream = model.upstream(profile)
    if upstream is None:
        return Obstacle.PROFILE
    if query.min_context_tokens is not None and upstream.context_tokens < query.min_context_tokens:
        return Obstacle.CONTEXT
    if query.cost_tier is not None and model.cost_tier.rank > query.cost_tier.rank:
        return Obstacle.COST
    return upstream if upstream.instance in ready else Obstacle.READINESS


def _can(model: RoutedModel, kind: ModelKind | None) -> bool:
    """Say whether a model does what is asked for; one that sees chats as well."""
    return model.kind.can_chat if kind is ModelKind.CHAT else kind in (None, model.kind)


def _refused(passed_over: Sequence[tuple[RoutedModel, Obstacle]], query: Query, profile: str) -> Refused:
    """Refuse for the nearest miss: the models that got furthest say what would have to change."""
    nearest = max(obstacle for _, obstacle in passed_over)
    models = [model for model, obstacle in passed_over if obstacle is nearest]
    match nearest:
        case Obstacle.KIND:
            problem = refusals.wrong_kind(models, query.kind)
        case Obstacle.PROFILE:
            problem = refusals.not_in_profile(models, profile)
        case Obstacle.CONTEXT:
            problem = refusals.context_too_small(models, query.min_context_tokens, profile)
        case Obstacle.COST:
            problem = refusals.too_costly(models, query.cost_tier)
        case Obstacle.READINESS:
            problem = refusals.none_ready(models, profile)
        case _ as never:
            assert_never(never)
    return Refused(problem, is_temporary=nearest is Obstacle.READINESS)


def _reason(model: RoutedModel, choices: Choices, passed_over: Sequence[tuple[RoutedModel, Obstacle]]) -> str:
    if len(choices.models) == 1:
        return f"'{model.id}' is what {choices.meaning} means."
    place = f"'{model.id}' is choice {len(passed_over) + 1} of {len(choices.models)} for {choices.meaning}"
    skipped = ", ".join(f"'{other.id}' ({OBSTACLE_WORDS[obstacle]})" for other, obstacle in passed_over)
    return f"{place}, after {skipped}." if skipped else f"{place}."
