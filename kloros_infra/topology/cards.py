"""One card whatever the profile: is it there, whose is it, has it failed, and how much do others use of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

from kloros_infra.ir.card_facts import CardFacts, Fault, Holder, Lockout, Now
from kloros_infra.topology.decision import CardState
from kloros_infra.topology.faults import fault_words, is_of_card
from kloros_infra.topology.policy import ends_s, lockout_words
from kloros_infra.topology.state import CardMemory


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps every profile from a card."""

    state: CardState
    reason: str
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class CardView:
    """A card as profiles see it; None of `foreign_bytes` was never known, and then nobody is taken to use it."""

    card: str
    is_present: bool
    obstacle: Obstacle | None
    foreign_bytes: int | None
    holders: tuple[Holder, ...] = ()


def view(facts: CardFacts, memory: CardMemory, lockout: Lockout | None, now: Now) -> tuple[CardView, CardMemory]:
    """See a card through what is remembered of it, and remember what is seen."""
    pardoned_s = _pardoned(facts, memory, now)
    quarantine = _quarantine(facts, _still_counting(facts, memory), pardoned_s)
    foreign = memory.foreign_bytes if facts.foreign_bytes is None else facts.foreign_bytes
    seen = CardMemory(
        card=facts.card,
        # A card that is gone is used by nobody, whatever was known of it.
        foreign_bytes=foreign if facts.is_present else None,
        quarantine=quarantine,
        pardoned_epoch_s=None if pardoned_s == -inf else pardoned_s,
        is_locked=lockout is not None,
        is_given_back=lockout is None and (memory.is_given_back or memory.is_locked),
    )
    obstacle = _obstacle(facts, lockout, quarantine, now)
    return CardView(facts.card, facts.is_present, obstacle, seen.foreign_bytes, facts.holders), seen


def _pardoned(facts: CardFacts, memory: CardMemory, now: Now) -> float:
    """Say up to when faults are of the past; a clock that was set back does not pardon what is to come.

    Where the clock was set back, faults that were reported are dated after now: such a time stands if a fault bears it.
    """
    dated = {fault.since_epoch_s for fault in facts.faults}
    known = [time if time in dated else min(time, now.epoch_s) for time in _declared_past(facts, memory)]
    gone = [] if facts.is_present else [now.epoch_s, *dated]
    return max(known + gone, default=-inf)


def _declared_past(facts: CardFacts, memory: CardMemory) -> list[float]:
    return [time for time in (memory.pardoned_epoch_s, facts.cleared_epoch_s) if time is not None]


def _still_counting(facts: CardFacts, memory: CardMemory) -> list[Fault]:
    """Give the fault that is remembered, unless it was declared to be of the past."""
    fault = memory.quarantine
    past_s = max(_declared_past(facts, memory), default=-inf)
    return [fault] if fault is not None and fault.since_epoch_s > past_s else []


def _quarantine(facts: CardFacts, remembered: list[Fault], pardoned_s: float) -> Fault | None:
    """Give the latest fault that speaks against a card; one that lasts does so whatever was pardoned."""
    if not facts.is_present:
        return None
    of_card = [fault for fault in facts.faults if is_of_card(fault)]
    counting = [fault for fault in of_card if fault.is_lasting or fault.since_epoch_s > pardoned_s]
    known = remembered + counting
    return max(known, key=lambda fault: (fault.since_epoch_s, fault.kind, fault.xid or 0), default=None)


def _obstacle(facts: CardFacts, lockout: Lockout | None, quarantine: Fault | None, now: Now) -> Obstacle | None:
    """Name what is in the way; first what somebody wants."""
    if lockout is not None:
        ends = ends_s(lockout, now)
        return Obstacle(CardState.LOCKED, lockout_words(lockout), ends if isfinite(ends) else None)
    if not facts.is_present:
        return Obstacle(CardState.ABSENT, "absent")
    if quarantine is not None:
        return Obstacle(CardState.QUARANTINED, f"in quarantine: {fault_words(quarantine)}")
    return None
