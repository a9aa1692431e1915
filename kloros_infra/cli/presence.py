"""Which cards are there: those of this machine, and those that other hosts lend."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kloros_infra.adapters.pci import present_cards
from kloros_infra.adapters.rpc_servers import lent_cards
from kloros_infra.ir.catalog import Card
from kloros_infra.ir.routing import RoutedCard


def cards_there(cards: Iterable[Card | RoutedCard]) -> frozenset[str]:
    """Name the cards that can be used now; a host that is asked and is away costs a second."""
    cards = tuple(cards)
    local = (card for card in cards if card.remote is None)
    return present_cards(local, Path("/sys"), Path("/proc")) | lent_cards(cards)
