"""Gather what a decision is made of: the routing table's rules, the cards, and what people want of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kloros_infra.agent.ports import Outside
from kloros_infra.agent.records import read_cleared, read_events
from kloros_infra.ir.card_facts import (
    CardFacts,
    DeclaredCard,
    DriverReading,
    Fault,
    FaultKind,
    Lockout,
    Now,
    Policy,
    PolicySource,
    ProfileRule,
    TopologyFacts,
)
from kloros_infra.ir.routing import RoutedCard, RoutingTable, Upstream
from kloros_infra.topology.foreign import Family, OurUse, facts_of_cards
from kloros_infra.topology.lockout_problems import pin_not_readable
from kloros_infra.topology.lockouts import read_sources
from kloros_infra.topology.state import TopologyState

MIB = 2**20
BY_MODELS_YAML = "models.yaml"


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen at one instant, and what that makes of the facts."""

    facts: TopologyFacts
    reading: DriverReading
    present: frozenset[str]


NOTHING_SEEN = Sight(TopologyFacts((), ()), DriverReading(), frozenset())


def look(outside: Outside, table: RoutingTable) -> Sight:
    """Look at everything."""
    cards = cards_of(table)
    present = outside.presence.present(cards)
    there = [card for card in local_cards(table) if card.name in present]
    # First the driver: a process of ours that begins meanwhile is then known as one of ours.
    reading = outside.driver.read(there) if there else DriverReading()
    ours = our_use(outside, table) if reading.cards else OurUse()
    found = facts_of_cards(_declared(cards), present, reading, ours)
    return Sight(_facts(outside, table, found), reading, present)


def glance(outside: Outside, table: RoutingTable, last: Sight) -> Sight:
    """Look at what can be seen at once: who uses the cards is as it was, as neither driver nor units are asked."""
    cards = cards_of(table)
    present = outside.presence.present(cards)
    reading = replace(last.reading, is_stale=True, problems=())
    holders = {card.card: card.holders for card in last.facts.cards}
    known = facts_of_cards(_declared(cards), present, reading, OurUse())
    found = (replace(card, holders=holders.get(card.card, ())) for card in known)
    return Sight(_facts(outside, table, found), reading, present)


def after_resets(sight: Sight, state: TopologyState, now: Now) -> TopologyFacts:
    """Take what was reported of a card for past once it answers again: one that was lost does so after a reset alone.

    That goes for states that last. Of an event nobody says that a reset has mended it, so `gpu clear` has to.
    """
    if sight.reading.is_stale:
        return sight.facts
    answering = {card.card for card in sight.reading.cards if card.used_bytes is not None and not card.faults}
    # The clock may have been set back since.
    reset = {
        card.card: max(now.epoch_s, card.quarantine.since_epoch_s)
        for card in state.cards
        if card.card in answering and card.quarantine and card.quarantine.kind is not FaultKind.XID
    }
    cards = (
        replace(card, cleared_epoch_s=reset[card.card]) if card.card in reset else card for card in sight.facts.cards
    )
    return replace(sight.facts, cards=tuple(cards))


def _declared(cards: Iterable[RoutedCard]) -> tuple[DeclaredCard, ...]:
    return tuple(DeclaredCard(card.name, card.uuid, card.pci, card.remote is not None) for card in cards)


def _facts(outside: Outside, table: RoutingTable, cards: Iterable[CardFacts]) -> TopologyFacts:
    return TopologyFacts(rules_of(table), tuple(_with_records(outside, cards)), policy_of(outside, table))


def cards_of(table: RoutingTable) -> tuple[RoutedCard, ...]:
    """List the cards of all profiles, each once."""
    return tuple({card.name: card for profile in table.profiles for card in profile.cards}.values())


def local_cards(table: RoutingTable) -> tuple[DeclaredCard, ...]:
    """List the cards of this host."""
    return _declared(card for card in cards_of(table) if card.remote is None)


def nameable_cards(table: RoutingTable) -> tuple[DeclaredCard, ...]:
    """List the cards among which people name one, by place as well: in the order of `gpu list`, lent ones too.

    A card that no profile needs may be locked out as well, which changes nothing; these come last.
    """
    return _declared((*cards_of(table), *table.unused_cards))


def rules_of(table: RoutingTable) -> tuple[ProfileRule, ...]:
    """Give what each profile asks of its cards."""
    return tuple(
        ProfileRule(
            name=profile.name,
            cards=tuple(card.name for card in profile.cards),
            leave_above_bytes=profile.leave_above_mib * MIB,
            take_below_bytes=profile.take_below_mib * MIB,
            regain_after_s=profile.regain_after_s,
            release_after_s=profile.release_after_s,
        )
        for profile in table.profiles
    )


def policy_of(outside: Outside, table: RoutingTable) -> Policy:
    """Read what people want: lockout files, models.yaml's own lockouts, and the pin."""
    cards = nameable_cards(table)
    sources = read_sources(outside.lockouts([card.name for card in cards]), cards, outside.local_time)
    own = PolicySource(BY_MODELS_YAML, tuple(_own_lockouts(table)))
    pinned = outside.files.read(outside.layout.pin_file)
    if pinned is None and outside.files.exists(outside.layout.pin_file):
        place = outside.layout.absolute(outside.layout.pin_file)
        sources = (*sources, PolicySource(place, (), (pin_not_readable(place),)))
    return Policy((*sources, own) if own.lockouts else sources, (pinned or "").strip() or None)


def _own_lockouts(table: RoutingTable) -> Iterator[Lockout]:
    return (Lockout(card.name, f"by {BY_MODELS_YAML}", None) for card in cards_of(table) if card.is_locked)


def our_use(outside: Outside, table: RoutingTable) -> OurUse:
    """Say which processes are ours, and on which cards their instances have a share.

    Where nobody can say, some of ours may hold anything on each card: then what others use is not known.
    """
    upstreams = {upstream.unit: upstream for model in table.models for upstream in model.upstreams}
    families = outside.processes.families(upstreams.keys())
    if families is None:
        return OurUse((), {card.name: ((),) for card in cards_of(table)})
    return OurUse(tuple(families.values()), _users(upstreams, families))


def _users(upstreams: Mapping[str, Upstream], families: Mapping[str, Family]) -> Mapping[str, Sequence[Family]]:
    users: dict[str, list[Family]] = {}
    for unit, family in families.items():
        for share in upstreams[unit].shares if unit in upstreams else ():
            users.setdefault(share.card, []).append(family)
    return users


def _with_records(outside: Outside, cards: Iterable[CardFacts]) -> Iterator[CardFacts]:
    """Add to each card what was reported of it, and up to when that is of the past."""
    events = read_events(outside.files.read(outside.layout.faults_file), outside.boot_id)
    cleared = read_cleared(outside.files.read(outside.layout.cleared_file))
    faults: dict[str, list[Fault]] = {}
    for event in events:
        faults.setdefault(event.card, []).append(event.fault)
    for card in cards:
        yield replace(card, faults=(*card.faults, *faults.get(card.card, ())), cleared_epoch_s=cleared.get(card.card))
