"""Decide which profile is active: (state, facts, now) → (state, decision).

A card may be used while it is present, not locked out, not in quarantine and little used by others; how busy it is says
nothing, for that may be our own work. What is lost acts at once. What comes back must stay for a while, and changes for
a better profile are kept apart (`choice`), except for what somebody gave back by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kloros_infra.ir.card_facts import CardFacts, Now, PolicySource, TopologyFacts
from kloros_infra.topology.cards import CardView, view
from kloros_infra.topology.choice import Candidates, choose, held_back_until
from kloros_infra.topology.decision import Decision, ProfileVerdict
from kloros_infra.topology.policy import in_force, last_understood
from kloros_infra.topology.problems import problems_of
from kloros_infra.topology.reasons import card_verdicts, reason_of
from kloros_infra.topology.standing import stand, verdict
from kloros_infra.topology.state import CardMemory, History, Standing, TopologyState


@dataclass(frozen=True, slots=True)
class _Seen:
    """The cards of one instant."""

    views: Mapping[str, CardView]
    memories: tuple[CardMemory, ...]
    sources: tuple[PolicySource, ...]


def decide(state: TopologyState, facts: TopologyFacts, now: Now) -> tuple[TopologyState, Decision]:
    """Say which profile is active from now on; the same facts at the same instant change nothing more."""
    seen = _see(state, facts, now)
    standings = tuple(_standings(state, facts, seen, now))
    verdicts = tuple(_verdicts(facts, seen, standings))
    candidates = _candidates(state, facts, seen, verdicts)
    profile, history = _chosen(state, candidates, now)
    following = TopologyState(
        profile=profile,
        standings=standings,
        cards=_used_cards(seen, facts, profile, candidates),
        sources=seen.sources,
        history=history,
        pin=candidates.pin if profile == candidates.pin or not candidates.is_pin_new else None,
    )
    cards = card_verdicts(seen.views, verdicts)
    untils = [card.until_s for one in verdicts for card in one.cards] + [card.until_s for card in cards]
    untils.append(held_back_until(profile, candidates, history))
    decision = Decision(
        profile=profile,
        reason=reason_of(profile, candidates, verdicts),
        held_until_s=min((until for until in untils if until is not None), default=None),
        profiles=verdicts,
        cards=cards,
        problems=problems_of(facts, seen.sources),
    )
    return following, decision


def _see(state: TopologyState, facts: TopologyFacts, now: Now) -> _Seen:
    """Look at every card that is known or that a profile needs."""
    sources = last_understood(state.sources, facts.policy)
    lockouts = in_force(sources, now)
    remembered = {memory.card: memory for memory in state.cards}
    views, memories = {}, []
    for card in _cards(facts):
        memory = remembered.get(card.card, CardMemory(card.card))
        views[card.card], one = view(card, memory, lockouts.get(card.card), now)
        memories.append(one)
    return _Seen(views, tuple(memories), sources)


def _cards(facts: TopologyFacts) -> Iterator[CardFacts]:
    """Give each card once; one that nothing is known of is absent."""
    known = {card.card: card for card in facts.cards}
    needed = dict.fromkeys(name for rule in facts.profiles for name in rule.cards)
    yield from known.values()
    yield from (CardFacts(name, is_present=False) for name in needed if name not in known)


def _standings(state: TopologyState, facts: TopologyFacts, seen: _Seen, now: Now) -> Iterator[Standing]:
    before = {(standing.profile, standing.card): standing for standing in state.standings}
    for rule in facts.profiles:
        for card in rule.cards:
            yield stand(rule, seen.views[card], before.get((rule.name, card)), now)


def _verdicts(facts: TopologyFacts, seen: _Seen, standings: Sequence[Standing]) -> Iterator[ProfileVerdict]:
    by_both = {(standing.profile, standing.card): standing for standing in standings}
    for rule in facts.profiles:
        cards = (verdict(rule, seen.views[card], by_both[rule.name, card]) for card in rule.cards)
        yield ProfileVerdict(rule.name, tuple(cards))


def _candidates(
    state: TopologyState, facts: TopologyFacts, seen: _Seen, verdicts: Sequence[ProfileVerdict]
) -> Candidates:
    names = {rule.name for rule in facts.profiles}
    pin = facts.policy.pin if facts.policy.pin in names else None
    return Candidates(
        rules=facts.profiles,
        eligible=frozenset(one.profile for one in verdicts if one.is_eligible),
        unsettled=frozenset(one.profile for one in verdicts if not one.is_settled),
        pin=pin,
        is_pin_new=pin != state.pin,
        given_back=frozenset(one.card for one in seen.memories if one.is_given_back),
        locked=frozenset(one.card for one in seen.memories if one.is_locked),
    )


def _chosen(state: TopologyState, candidates: Candidates, now: Now) -> tuple[str, History]:
    """Choose the profile that follows; where none is active, as at boot, that is the best."""
    if state.profile is None or not candidates.has(state.profile):
        return candidates.best, state.history
    return choose(state.profile, candidates, state.history, now.monotonic_s)


def _used_cards(seen: _Seen, facts: TopologyFacts, profile: str, candidates: Candidates) -> tuple[CardMemory, ...]:
    """Remember no longer that a card was given back once a profile with it is active."""
    active = next(rule for rule in facts.profiles if rule.name == profile)
    used = set(active.cards) if profile in candidates.eligible else set()
    return tuple(replace(one, is_given_back=one.is_given_back and one.card not in used) for one in seen.memories)
