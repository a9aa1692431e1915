"""How much of each card others use: what is in use, less what our processes hold."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kloros_infra.ir.card_facts import CardFacts, CardReading, DeclaredCard, DriverReading, Holder

Family = Collection[int]
"""The processes of one instance that runs."""


@dataclass(frozen=True, slots=True)
class OurUse:
    """The instances that run; `users` are those that have something on a card, by card."""

    families: Sequence[Family] = ()
    users: Mapping[str, Sequence[Family]] = field(default_factory=dict)


def facts_of_cards(
    cards: Sequence[DeclaredCard], present: Collection[str], reading: DriverReading, ours: OurUse
) -> tuple[CardFacts, ...]:
    """Put together what sysfs, the driver and our own units say of each card.

    What the driver said some time ago tells who a card is and what it had, not who uses it now.
    """
    read = {card.card: card for card in reading.cards}
    return tuple(_facts(card, card.name in present, read.get(card.name), reading.is_stale, ours) for card in cards)


def _facts(card: DeclaredCard, is_present: bool, read: CardReading | None, is_stale: bool, ours: OurUse) -> CardFacts:
    if read is None or not is_present:
        return CardFacts(card.name, is_present, card.uuid, card.pci)
    pids = {pid for family in ours.families for pid in family}
    return CardFacts(
        card=card.name,
        is_present=True,
        uuid=read.uuid or card.uuid,
        pci=read.pci or card.pci,
        total_bytes=read.total_bytes,
        foreign_bytes=None if is_stale else _foreign_bytes(read, pids, ours.users.get(card.name, ())),
        holders=tuple(_holders(read, pids)),
        faults=read.faults,
    )


def _foreign_bytes(read: CardReading, pids: Collection[int], users: Sequence[Family]) -> int | None:
    """Say what others use; None where the driver does not say what ours do.

    An instance of which it counts no process is loading, or is counted by other numbers, as in a container.
    """
    held = {holder.pid: holder.held_bytes for holder in read.processes if holder.pid in pids}
    counted = [size for size in held.values() if size is not None]
    is_told = len(counted) == len(held) and all(any(pid in held for pid in family) for family in users)
    if read.used_bytes is None or not is_told:
        return None
    return max(0, read.used_bytes - sum(counted))


def _holders(read: CardReading, pids: Collection[int]) -> Iterator[Holder]:
    """List the processes of others, the largest first."""
    others = [holder for holder in read.processes if holder.pid not in pids]
    yield from sorted(others, key=lambda holder: (-(holder.held_bytes or 0), holder.pid))
