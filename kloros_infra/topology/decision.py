"""What is decided, and why, card by card."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.diagnostics import Problems


class CardState(StrEnum):
    """How a card stands with a profile that needs it."""

    ELIGIBLE = "eligible"
    ABSENT = "absent"
    LOCKED = "locked"
    QUARANTINED = "quarantined"
    TAKEN = "taken"
    """Others use it."""
    WAITING = "waiting"
    """It is free, and must stay so for a while."""


@dataclass(frozen=True, slots=True)
class CardVerdict:
    """Whether a card may be used and why; `until_s` is when that changes if the facts stay, on the monotonic clock."""

    card: str
    state: CardState
    reason: str
    until_s: float | None = None

    @property
    def is_eligible(self) -> bool:
        return self.state is CardState.ELIGIBLE


@dataclass(frozen=True, slots=True)
class ProfileVerdict:
    """Whether a profile may be active: each of its cards says so."""

    profile: str
    cards: tuple[CardVerdict, ...]

    @property
    def is_eligible(self) -> bool:
        return all(card.is_eligible for card in self.cards)

    @property
    def is_settled(self) -> bool:
        """Say whether it stays as it is if the facts do."""
        return all(card.until_s is None for card in self.cards)


@dataclass(frozen=True, slots=True)
class Decision:
    """The active profile, why it and none of the better ones, and how each card stands.

    `held_until_s`, on the monotonic clock, is the next instant at which any of this changes if the facts stay.
    """

    profile: str
    reason: str
    held_until_s: float | None
    profiles: tuple[ProfileVerdict, ...]
    cards: tuple[CardVerdict, ...]
    problems: Problems = ()
