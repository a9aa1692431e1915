"""Say why a profile is active and none of the better ones, and how each card stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kloros_infra.topology.cards import CardView
from kloros_infra.topology.choice import Candidates
from kloros_infra.topology.decision import CardState, CardVerdict, ProfileVerdict


def reason_of(profile: str, candidates: Candidates, verdicts: Sequence[ProfileVerdict]) -> str:
    """Say why this profile is active and each better one is not."""
    place = candidates.place(profile)
    better = [_why_not(one, candidates) for one in verdicts[:place]]
    return "; ".join([_why(verdicts[place], candidates), *better]) + "."


def _why(one: ProfileVerdict, candidates: Candidates) -> str:
    cards = ", ".join(card.card for card in one.cards)
    pinned = " is pinned and" if one.profile == candidates.pin else ""
    if one.is_eligible:
        return f"'{one.profile}'{pinned} " + (f"has its cards {cards}" if cards else "needs no card")
    return f"no profile has all its cards, and '{one.profile}'{pinned} is the last: {_lacks(one)}"


def _why_not(one: ProfileVerdict, candidates: Candidates) -> str:
    if not one.is_eligible:
        return f"'{one.profile}'{' is pinned but' if one.profile == candidates.pin else ''} lacks {_lacks(one)}"
    if all(rule.name != one.profile for rule in candidates.wanted):
        return f"'{one.profile}' is better than the pinned '{candidates.pin}'"
    if not one.is_settled:
        return f"'{one.profile}' may lose {', '.join(_told(card) for card in one.cards if card.until_s is not None)}"
    return f"'{one.profile}' has its cards again, but changes for a better profile are kept apart"


def _lacks(one: ProfileVerdict) -> str:
    return ", ".join(_told(card) for card in one.cards if not card.is_eligible)


def _told(card: CardVerdict) -> str:
    return f"{card.card} ({card.reason})"


def card_verdicts(views: Mapping[str, CardView], verdicts: Sequence[ProfileVerdict]) -> tuple[CardVerdict, ...]:
    """Sum up how each card stands with the profiles that need it."""
    return tuple(_summed(name, views[name], verdicts) for name in views)


def _summed(name: str, view: CardView, verdicts: Sequence[ProfileVerdict]) -> CardVerdict:
    needing = [(one.profile, card) for one in verdicts for card in one.cards if card.card == name]
    refused = [(profile, card) for profile, card in needing if not card.is_eligible]
    if not needing:
        return _unneeded(name, view)
    profile, first = (refused or needing)[0]
    if len(refused) in (0, len(needing)):
        return first
    others = ", ".join(f"'{one}'" for one, card in needing if card.is_eligible)
    return CardVerdict(name, first.state, f"not for '{profile}': {first.reason}; eligible for {others}", first.until_s)


def _unneeded(name: str, view: CardView) -> CardVerdict:
    if view.obstacle is not None:
        return CardVerdict(name, view.obstacle.state, view.obstacle.reason, view.obstacle.until_s)
    return CardVerdict(name, CardState.ELIGIBLE, "no profile needs it")
