"""Which profile follows: down at once, up slowly, and more slowly the less the last changes for a better one lasted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from kloros_infra.ir.card_facts import ProfileRule
from kloros_infra.topology.state import History

FIRST_WAIT_S = 300.0
"""How long after a change for a better profile the next one may follow."""
LONGEST_WAIT_S = 3600.0
FLAPS_COUNT_S = 3600.0
"""How long a change that did not last makes the next ones wait twice as long."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The profiles, best first, and what speaks for and against each.

    `unsettled` are eligible, but others have begun to use a card of theirs: that may end them in a moment.
    `pin` is one of them or None; `given_back` are cards that somebody gave back by hand, `locked` those locked out.
    `is_pin_new` where the pinned profile was not active since it was pinned.
    """

    rules: Sequence[ProfileRule]
    eligible: Collection[str]
    unsettled: Collection[str] = ()
    pin: str | None = None
    is_pin_new: bool = False
    given_back: Collection[str] = ()
    locked: Collection[str] = ()

    def place(self, name: str) -> int:
        """Say how many profiles are better."""
        return self._names.index(name)

    @property
    def wanted(self) -> Sequence[ProfileRule]:
        """Give the profiles that may be active: all, or the pinned one and those below it."""
        return self.rules if self.pin is None else self.rules[self.place(self.pin) :]

    @property
    def best(self) -> str:
        """Name the best that is eligible, or the last where none is: its instances wait for their cards."""
        return next((rule.name for rule in self.wanted if rule.name in self.eligible), self.rules[-1].name)

    def has(self, name: str | None) -> bool:
        return name in self._names

    def can_stay(self, name: str) -> bool:
        """Say whether a profile is wanted and has its cards."""
        return name in self.eligible and any(rule.name == name for rule in self.wanted)

    def better_than(self, name: str) -> list[ProfileRule]:
        """Give the better profiles that are wanted and have their cards, and are not about to lose them."""
        better = (rule for rule in self.wanted if self.place(rule.name) < self.place(name))
        return [rule for rule in better if rule.name in self.eligible and rule.name not in self.unsettled]

    @property
    def _names(self) -> list[str]:
        return [rule.name for rule in self.rules]


def choose(active: str, candidates: Candidates, history: History, now_s: float) -> tuple[str, History]:
    """Say which profile follows the active one, and remember the change."""
    known = _known(history, now_s)
    if candidates.can_stay(active):
        allowed = (rule.name for rule in candidates.better_than(active) if _may(rule, candidates, known, now_s))
        chosen = next(allowed, active)
    else:
        chosen = candidates.best
    if chosen == active:
        return active, known
    if candidates.place(chosen) < candidates.place(active):
        return chosen, _upgraded(known, now_s)
    return chosen, _lost(active, candidates, known, now_s)


def held_back_until(active: str, candidates: Candidates, history: History) -> float | None:
    """Say when a better profile than the active one follows, which is eligible already; None where there is none."""
    return history.not_before_s if candidates.better_than(active) else None


def _known(history: History, now_s: float) -> History:
    """Forget what is too old to count; times to come are of another boot's clock."""
    flaps = tuple(time for time in history.flaps_s if now_s - FLAPS_COUNT_S < time <= now_s)
    if history.upgraded_s is None or history.not_before_s is None:
        return replace(history, flaps_s=flaps)
    upgraded_s, not_before_s = min(history.upgraded_s, now_s), min(history.not_before_s, now_s + LONGEST_WAIT_S)
    return replace(history, upgraded_s=upgraded_s, not_before_s=not_before_s, flaps_s=flaps)


def _may(rule: ProfileRule, candidates: Candidates, history: History, now_s: float) -> bool:
    """Say whether a better profile may follow: what somebody did by hand does not wait."""
    if candidates.is_pin_new and rule.name == candidates.pin:
        return True
    if any(card in candidates.given_back for card in rule.cards):
        return True
    return history.not_before_s is None or now_s >= history.not_before_s


def _wait_s(flaps: Collection[float]) -> float:
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** len(flaps))


def _upgraded(history: History, now_s: float) -> History:
    return History(now_s, now_s + _wait_s(history.flaps_s), history.flaps_s, is_standing=True)


def _lost(active: str, candidates: Candidates, history: History, now_s: float) -> History:
    """Count a change that did not last, unless somebody wanted it so."""
    rule = candidates.rules[candidates.place(active)]
    is_by_hand = active in candidates.eligible or any(card in candidates.locked for card in rule.cards)
    if is_by_hand or not history.is_standing or history.upgraded_s is None:
        return replace(history, is_standing=False)
    flaps = (*history.flaps_s, now_s)
    return History(history.upgraded_s, history.upgraded_s + _wait_s(flaps), flaps)
