"""What a reconcile has to say beside its decision."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.agent.facts import Sight
from kloros_infra.agent.report import Judged
from kloros_infra.diagnostics import Diagnostic, Problems, Severity, in_order


def problems_of(judged: Judged) -> Problems:
    """Collect what is wrong with the facts."""
    return in_order((*judged.decision.problems, *judged.sight.reading.problems, *_unknown_use(judged.sight)))


def nothing_installed(place: str) -> Diagnostic:
    """Say that there is no routing table, so that there are no profiles to choose from."""
    return Diagnostic(
        code="KI906",
        summary="Nothing is installed here",
        detail=f"There is no routing table at {place}, so there is no profile to choose.",
        hint="Run `kloros-infra apply`; --root names another installation.",
        severity=Severity.WARNING,
    )


def cannot_write(error: OSError) -> Diagnostic:
    """Say that the outcome cannot be written down."""
    return Diagnostic(
        code="KI908",
        summary="The state of the cards cannot be written",
        detail=f"{error.filename or 'A file'}: {error.strerror or error}. The active profile is what it was.",
        hint="See that the folder is there, has room, and belongs to who runs this; changing / needs root.",
    )


def _unknown_use(sight: Sight) -> Iterator[Diagnostic]:
    """Tell which cards are there without that anybody says how they are used."""
    reading = sight.reading
    if reading.trouble and not reading.problems:
        yield _not_known("the cards", reading.trouble)
    for card in reading.cards:
        if card.obstacle and card.card in sight.present and not card.faults:
            yield _not_known(card.card, card.obstacle)


def _not_known(card: str, why: str) -> Diagnostic:
    return Diagnostic(
        code="KI909",
        summary="Use of a card is not known",
        detail=f"What others use of {card} is not known: {why}.",
        hint="Until it is known, nobody is taken to use it; `kloros-infra doctor` looks at the driver.",
        severity=Severity.WARNING,
    )
