"""gpu_cards.json: how each card stands, and why the active profile is. Written by reconcile, read by all others."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

CLOSED: Final = frozenset({"absent", "locked", "quarantined"})
"""States of a card on which nothing of ours may run, whatever the profile."""


class ReportPart(BaseModel):
    """A closed, frozen part of the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReportedHolder(ReportPart):
    """A process of others that has memory of a card."""

    pid: int
    name: str
    held_mib: int | None


class ReportedCard(ReportPart):
    """A card of this host or one that is lent; None is not known. `state` is topology.decision.CardState's word."""

    card: str
    state: str
    reason: str
    until_epoch_s: float | None = None
    """When this changes if the facts stay."""
    uuid: str | None = None
    pci: str | None = None
    total_mib: int | None = None
    used_mib: int | None = None
    foreign_mib: int | None = None
    holders: tuple[ReportedHolder, ...] = ()

    @property
    def is_eligible(self) -> bool:
        return self.state == "eligible"

    @property
    def is_closed(self) -> bool:
        return self.state in CLOSED


class ReportedProblem(ReportPart):
    """A diagnostic that concerns the cards: a lockout file that cannot be read, a driver that does not answer."""

    code: str
    severity: str
    summary: str
    detail: str
    hint: str = ""


class CardsReport(ReportPart):
    """The whole report; times are of the wall clock, in seconds since 1970."""

    version: Literal[1] = 1
    profile: str
    reason: str
    since_epoch_s: float
    """Since when the profile is active."""
    held_until_epoch_s: float | None = None
    next_profile: str | None = None
    """The profile that follows then if the facts stay; None where it is the same."""
    next_epoch_s: float | None = None
    pin: str | None = None
    cards: tuple[ReportedCard, ...] = ()
    problems: tuple[ReportedProblem, ...] = ()
    hardware_changes: tuple[str, ...] = ()
    """What differs between the cards that are there and those that the generation was compiled for, in words."""


def understood(text: str | bytes | None) -> CardsReport | None:
    """Read a report; None where there is none, or none that can be understood."""
    try:
        return CardsReport.model_validate_json(text or "")
    except ValidationError:
        return None
