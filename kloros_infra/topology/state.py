"""What is remembered between two decisions; a decision without memory is one at boot, and waits for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.card_facts import Fault, PolicySource


@dataclass(frozen=True, slots=True)
class Standing:
    """One card for one profile: whether that may use it, and since when what would change this has held."""

    profile: str
    card: str
    is_ok: bool
    is_taken: bool = False
    """Whether others use it: from above the upper threshold until it is regained below the lower one."""
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class CardMemory:
    """What is remembered of one card whatever the profile."""

    card: str
    foreign_bytes: int | None = None
    """What others used when that was last known."""
    quarantine: Fault | None = None
    pardoned_epoch_s: float | None = None
    """Faults up to this time are of the past: the card was cleared, reset or gone since."""
    is_locked: bool = False
    is_given_back: bool = False
    """Whether a lockout has ended and no profile with the card was active since."""


@dataclass(frozen=True, slots=True)
class History:
    """When profiles changed for a better one, and how often such a change did not last."""

    upgraded_s: float | None = None
    not_before_s: float | None = None
    """When the next change for a better one is allowed."""
    flaps_s: tuple[float, ...] = ()
    is_standing: bool = False
    """Whether the last change was for a better profile."""


@dataclass(frozen=True, slots=True)
class TopologyState:
    """The whole memory; a fresh one knows of no active profile."""

    profile: str | None = None
    standings: tuple[Standing, ...] = ()
    cards: tuple[CardMemory, ...] = ()
    sources: tuple[PolicySource, ...] = ()
    """What each source of policy said when it was last understood."""
    history: History = History()
    pin: str | None = None
    """The pinned profile, once it was active."""
