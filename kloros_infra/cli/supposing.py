"""Read what `placement what-if` is to suppose: cards by name and memory, a context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from kloros_infra.cli.placements import View, errors_about, left_out, model_called, profile_called
from kloros_infra.compiler.locked import long_context
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.catalog import Card, Profile
from kloros_infra.ir.written import parse_card_memory
from kloros_infra.placement.card_table import CARDS, CardFigures, figures_of, seen_by_cuda, short_name
from kloros_infra.placement.what_if import Outlook, Supposition, outlooks


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks, as it is written; nothing of it is sure to exist."""

    gpus: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    context: int | None = None
    model: str | None = None
    profile: str | None = None


def suppose(view: View, asked: Asked) -> tuple[tuple[Outlook, ...], Problems]:
    """Place the models of a profile before and after; raise ProblemsError for names that nobody knows.

    The problems are those of what would be, and of models that nothing can be said of.
    """
    catalog = view.catalog
    profile = catalog.profiles[0] if asked.profile is None else profile_called(catalog, asked.profile)
    model_id = None if asked.model is None else model_called(view, asked.model).id
    supposition = _supposition(view, profile, asked)
    found, problems = outlooks(catalog, profile, supposition, view.machine, model_id=model_id)
    wrong = () if model_id else tuple(problem for one in left_out(view) for problem in errors_about(view, one.id))
    if wrong and not found:
        raise ProblemsError(wrong)
    return found, (*wrong, *_beyond_training(found, asked.context), *problems)


def _beyond_training(found: Iterable[Outlook], context_tokens: int | None) -> Iterator[Diagnostic]:
    """Warn of a context that a model has not seen, as compile does."""
    for one in found:
        trained = one.instance.model.weights.header.context_length
        if context_tokens is not None and context_tokens > trained:
            yield long_context(one.instance.model.id, context_tokens, trained)


def _supposition(view: View, profile: Profile, asked: Asked) -> Supposition:
    here = {card.name for card in profile.cards}
    problems = [_not_there(name, profile) for name in asked.without if name not in here]
    cards: list[Card] = []
    for word in asked.gpus:
        found = _card(view, word)
        if isinstance(found, Diagnostic):
            problems.append(found)
        else:
            cards.append(found)
    if problems:
        raise ProblemsError(problems)
    return Supposition(tuple(_distinct(cards)), frozenset(asked.without), asked.context)


def _card(view: View, word: str) -> Card | Diagnostic:
    """Read `rtx3090` or `rtx3090:24GiB`: a card of models.yaml, or one that is well known."""
    name, has_size, size = word.partition(":")
    try:
        vram_bytes = parse_card_memory(size) if has_size else None
    except ValueError as error:
        return _no_amount(word, str(error))
    declared = {card.name: card for profile in view.catalog.profiles for card in profile.cards}
    if name in declared:
        card = declared[name]
        return card if vram_bytes is None else replace(card, vram_bytes=vram_bytes)
    figures = figures_of(name)
    if figures is None:
        return _unknown_card(name, (*declared, *CARDS))
    return _known_card(view, name, figures, vram_bytes)


def _known_card(view: View, name: str, figures: CardFigures, vram_bytes: int | None) -> Card:
    return Card(
        name=short_name(name),
        host=view.catalog.host,
        vram_bytes=seen_by_cuda(name, vram_bytes or figures.memory_bytes),
        reserve_bytes=view.parsed.config.defaults.reserve,
        bandwidth_bytes_per_s=figures.bandwidth_bytes_per_s,
        compute_capability=figures.compute_capability,
        uuid=None,
        pci=None,
        cuda_index=0,
        model=name,
    )


def _distinct(cards: Iterable[Card]) -> Iterator[Card]:
    """Number cards that are supposed twice."""
    seen: Counter[str] = Counter()
    for card in cards:
        seen[card.name] += 1
        yield card if seen[card.name] == 1 else replace(card, name=f"{card.name}-{seen[card.name]}")


def _unknown_card(name: str, known: Iterable[str]) -> Diagnostic:
    return Diagnostic(
        code="KI442",
        summary="Unknown card",
        detail=f"{name!r} is neither a card of models.yaml nor one whose figures are known.",
        hint=f"{suggest(name, known)} For any other, declare it in `gpus` with `vram`, `bandwidth` and "
        "`compute_capability`, and list it in a profile.",
    )


def _no_amount(word: str, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI442",
        summary="Unknown card",
        detail=f"{word!r} is no card with its memory: {reason}.",
        hint="Write it as rtx3090 or rtx3090:24GiB.",
    )


def _not_there(name: str, profile: Profile) -> Diagnostic:
    return Diagnostic(
        code="KI443",
        summary="Card not in the profile",
        detail=f"The profile {profile.name} has no {name}, so it cannot be taken out.",
        hint=suggest(name, [card.name for card in profile.cards]),
    )
