"""How much of each card others use, beyond what its capacity leaves them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from kloros_infra.ir.routing import RoutedCard, RoutingTable
from kloros_infra.ir.seen_card import SeenCard

MIB = 2**20


def foreign_mib(
    table: RoutingTable, cards: Collection[SeenCard], pids: Mapping[str, Collection[int]]
) -> dict[str, int]:
    """Say what others take from our instances of each card, in MiB; `pids` are the processes of those that run.

    A card's capacity is less than its memory by what desktop and driver may use: that is taken from nobody. A card is
    left out where an instance runs that uses it and the driver does not say how much: it is loading, or its processes
    are counted by other numbers, as in a container. Where there is no card to be seen, nobody uses one.
    """
    capacities = {capacity.card: capacity.mib for capacity in table.capacities}
    if not cards:
        return dict.fromkeys(capacities, 0)
    ours = {pid for family in pids.values() for pid in family}
    found: dict[str, int] = {}
    for card in _declared(table):
        seen = _seen(card, cards)
        if card.name not in capacities or seen is None or not _is_told(card.name, seen, table, pids):
            continue
        theirs = seen.used_bytes - sum(held for pid, held in seen.held_bytes.items() if pid in ours)
        found[card.name] = max(0, (theirs - seen.total_bytes) // MIB + capacities[card.name])
    return found


def _declared(table: RoutingTable) -> Iterator[RoutedCard]:
    """List this machine's cards; those of several profiles are the same."""
    cards = {card.name: card for profile in table.profiles for card in profile.cards if card.remote is None}
    yield from cards.values()


def _seen(card: RoutedCard, cards: Collection[SeenCard]) -> SeenCard | None:
    by_uuid = next((seen for seen in cards if card.uuid is not None and seen.uuid == card.uuid), None)
    return by_uuid or next((seen for seen in cards if card.pci is not None and seen.pci == card.pci), None)


def _is_told(name: str, seen: SeenCard, table: RoutingTable, pids: Mapping[str, Collection[int]]) -> bool:
    """Say whether the driver counts all our instances that run on a card."""
    users = (u for model in table.models for u in model.upstreams if any(share.card == name for share in u.shares))
    families = (pids[upstream.instance] for upstream in users if upstream.instance in pids)
    return all(any(pid in seen.held_bytes for pid in family) for family in families)
