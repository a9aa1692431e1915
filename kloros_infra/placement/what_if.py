"""What other cards or another context would change: the same placing, with cards that nobody has.

A model that a profile leaves out is placed there as well, to be started on demand: whether it would fit is what a
buyer wants to know. Where the cards differ, layers and percentages that are written for the old ones say nothing, and
the solver places in their stead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.catalog import Card, Catalog, Instance, PlacementMode, Profile
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.place import Machine, check_together
from kloros_infra.placement.problems import address_of
from kloros_infra.placement.residents import place_profile

_FOR_ANY_CARDS = frozenset({PlacementMode.AUTO, PlacementMode.SOLVER, PlacementMode.FIT})


@dataclass(frozen=True, slots=True)
class Supposition:
    """What is supposed: cards beside those of a profile, or in place of those of the same name; cards that are gone."""

    cards: tuple[Card, ...] = ()
    absent: frozenset[str] = frozenset()
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """One model before and after; None where it has no place. `is_guest` says that the profile leaves it out."""

    instance: Instance
    before: Placement | None
    after: Placement | None
    is_guest: bool
    problems: Problems = ()


def profile_with(profile: Profile, supposition: Supposition) -> Profile:
    """Put supposed cards into a profile: new ones last, as the solver chooses their order."""
    supposed = {card.name: card for card in supposition.cards}
    kept = tuple(supposed.pop(card.name, card) for card in profile.cards if card.name not in supposition.absent)
    return replace(profile, cards=(*kept, *supposed.values()))


def outlooks(
    catalog: Catalog, profile: Profile, supposition: Supposition, machine: Machine, *, model_id: str | None = None
) -> tuple[tuple[Outlook, ...], Problems]:
    """Place all models under a profile before and after; of `model_id` alone where that is given.

    The problems are those of the models that the profile starts together, as they would be.
    """
    changed = profile_with(profile, supposition)
    now = tuple(one for one in catalog.instances if one.profile.name == profile.name)
    guests = tuple(_guests(catalog, profile))
    then = tuple(_supposed(one, changed, supposition) for one in (*now, *guests))
    before, _ = place_profile((*now, *guests), machine)
    after, problems = place_profile(then, machine)
    found = tuple(
        Outlook(one, before.get(one.id), after.get(one.id), one in guests, _of(problems, one))
        for one in (*now, *guests)
        if model_id in (None, one.model.id)
    )
    started = {one.id: after[one.id] for one in then if one.serving.preload and one.id in after}
    return found, check_together(started)


def _guests(catalog: Catalog, profile: Profile) -> Iterator[Instance]:
    """Put models that a profile leaves out under it, as the first profile that has them serves them."""
    here = {one.model.id for one in catalog.instances if one.profile.name == profile.name}
    first = {one.model.id: one for one in reversed(catalog.instances)}
    for model in catalog.models:
        if model.id in first and model.id not in here:
            one = first[model.id]
            waiting = replace(one.serving, preload=False)
            yield _placed_anew(replace(one, id=InstanceId(model.name, profile.name), profile=profile, serving=waiting))


def _supposed(instance: Instance, profile: Profile, supposition: Supposition) -> Instance:
    context_tokens = supposition.context_tokens or instance.serving.context_tokens
    other = replace(instance, serving=replace(instance.serving, context_tokens=context_tokens))
    return other if profile == instance.profile else _placed_anew(replace(other, profile=profile))


def _placed_anew(instance: Instance) -> Instance:
    """Leave the placing to the solver, where models.yaml says it for other cards."""
    mode = instance.serving.placement
    serving = instance.serving if mode in _FOR_ANY_CARDS else replace(instance.serving, placement=PlacementMode.AUTO)
    return replace(instance, serving=serving, gpu_percentages=None, layers=None)


def _of(problems: Problems, instance: Instance) -> Problems:
    return tuple(problem for problem in problems if problem.address == address_of(instance))
