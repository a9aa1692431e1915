"""Find the models that a query means: by the name of a model or persona, by a purpose, or by a tag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.routing import RoutedModel, RoutedPersona, RoutedPurpose, RoutingTable
from kloros_infra.router import refusals
from kloros_infra.router.query import Query


class Meaning(NamedTuple):
    """The models that a query means, best first, and the words that say why they are meant.

    `purpose` is what was asked for, None where a model or persona is named; `declared` is it where models.yaml has it.
    """

    models: tuple[RoutedModel, ...]
    words: str
    persona: RoutedPersona | None = None
    purpose: str | None = None
    declared: RoutedPurpose | None = None


class Score(NamedTuple):
    """The design document's score of a model for a tag, part by part (section 5.1)."""

    specialist: int
    context: float
    cost: int

    @property
    def total(self) -> float:
        return self.specialist + self.context + self.cost


def meaning(table: RoutingTable, query: Query, *, profile: str) -> Meaning | Diagnostic:
    """Say which models a query means, whether they can serve it or not."""
    if query.persona is not None:
        return _of_persona(table, query.persona, query.model)
    if query.model is not None:
        return _of_model(table, query.model)
    return _of_purpose(table, query, profile)


def score(model: RoutedModel, tag: str, profile: str) -> Score:
    """Score a model: a specialist first, then much context, then low cost."""
    tags = model.purpose_tags
    specialist = 10 if tags[:1] == (tag,) else 5 if tag in tags else 0
    return Score(specialist, model.context_under(profile) / 10_000, -2 * model.cost_tier.rank)


def is_same_name(asked: str, known: str) -> bool:
    """Compare model names as Ollama does: `name` and `name:latest` are one."""
    return asked.removesuffix(":latest") == known.removesuffix(":latest")


def is_known(table: RoutingTable, asked: str) -> bool:
    """Say whether a model or a persona is called so."""
    return _find_model(table.models, asked) is not None or _find_persona(table.personas, asked) is not None


def _of_persona(table: RoutingTable, asked: str, model_name: str | None) -> Meaning | Diagnostic:
    persona = _find_persona(table.personas, asked)
    if persona is None:
        return refusals.unknown_persona(asked, _persona_names(table))
    # A request may try a persona on another model than its own.
    found = _of_model(table, model_name if model_name is not None else persona.model_id)
    if isinstance(found, Diagnostic):
        return found
    return Meaning(found.models, f"{found.words} under persona '{persona.id}'", persona)


def _of_model(table: RoutingTable, asked: str) -> Meaning | Diagnostic:
    model = _find_model(table.models, asked)
    if model is not None:
        return Meaning((model,), f"the name '{asked}'")
    if _find_persona(table.personas, asked) is not None:
        return _of_persona(table, asked, None)
    names = (name for known in table.models for name in (known.id, known.name, *known.aliases))
    return refusals.unknown_model(asked, [*names, *_persona_names(table)])


def _of_purpose(table: RoutingTable, query: Query, profile: str) -> Meaning | Diagnostic:
    name = query.purpose or next((purpose.name for purpose in table.purposes if purpose.is_default), None)
    if name is None:
        return refusals.nothing_asked(model.id for model in table.models)
    declared = next((purpose for purpose in table.purposes if purpose.name == name), None)
    models = tuple(_purpose_models(table, name, query.language, profile))
    if not models and declared is not None:
        return refusals.purpose_not_here(name, profile)
    if not models:
        tags = (tag for model in table.models for tag in model.purpose_tags)
        return refusals.unknown_purpose(name, [*(purpose.name for purpose in table.purposes), *tags])
    words = f"purpose '{name}'" if query.purpose else f"the default purpose '{name}'"
    marked = f" ({query.by_mark})" if query.by_mark else ""
    return Meaning(models, words + marked, None, name, declared)


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


def _purpose_models(table: RoutingTable, purpose: str, language: str | None, profile: str) -> Iterable[RoutedModel]:
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
        for model in _speakers_first(models, language):
            found.setdefault(model.id, model)
        name = known.otherwise if known else None
    return found.values()


def _tagged(models: Iterable[RoutedModel], tag: str, profile: str) -> list[RoutedModel]:
    """Order models that have a tag by the design document's score, then as in models.yaml."""
    tagged = (model for model in models if tag in model.purpose_tags)
    return sorted(tagged, key=lambda model: -score(model, tag, profile).total)


def _speakers_first(models: list[RoutedModel], language: str | None) -> list[RoutedModel]:
    """Put those that list a language before those that do not, each in their order; `de` and `de-AT` are one."""
    if language is None:
        return models
    wanted = _language(language)
    return sorted(models, key=lambda model: wanted not in map(_language, model.languages))


def _language(tag: str) -> str:
    """Give the language of a tag without script and region (RFC 5646, section 2.2.1)."""
    return tag.replace("_", "-").partition("-")[0].lower()
