"""Which cards are there, asked so that hosts which are away hold nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kloros_infra.adapters.pci import PROCFS, SYSFS, present_cards
from kloros_infra.adapters.rpc_servers import lent_cards
from kloros_infra.ir.catalog import Card
from kloros_infra.ir.routing import RoutedCard

ASK_S = 10.0
"""How often hosts are asked whether they still lend their cards; nobody reports that they do not."""


class CardPresence:
    """Implements `agent.ports.Presence`: each question is put at once, and a host that is away costs a second."""

    def __init__(self, sysfs: Path = SYSFS, procfs: Path = PROCFS) -> None:
        self._sysfs = sysfs
        self._procfs = procfs

    def present(self, cards: Sequence[Card | RoutedCard]) -> frozenset[str]:
        """Name the cards that can be used now."""
        return self.local(cards) | lent_cards(cards)

    def local(self, cards: Iterable[Card | RoutedCard]) -> frozenset[str]:
        """Name the cards of this machine that are there."""
        own = (card for card in cards if card.remote is None)
        return present_cards(own, self._sysfs, self._procfs)


class WatchedPresence:
    """Implements `agent.ports.Presence` for the agent: a thread asks other hosts, and nudges where they change.

    The first question waits for them, so that the first decision is right.
    """

    def __init__(self, presence: CardPresence, nudge: Callable[[], None], *, ask_s: float = ASK_S) -> None:
        self._presence = presence
        self._nudge = nudge
        self._ask_s = ask_s
        self._lent: tuple[RoutedCard, ...] = ()
        self._there: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None

    def present(self, cards: Sequence[RoutedCard]) -> frozenset[str]:
        """Name the cards that are there, lent ones as they were when they were last asked about."""
        lent = tuple(card for card in cards if card.remote is not None)
        if lent != self._lent:
            self._lent, self._there = lent, lent_cards(lent)
        if lent and self._thread is None:
            self._thread = threading.Thread(target=self._ask, name="lent-cards", daemon=True)
            self._thread.start()
        return self._presence.local(cards) | self._there

    def _ask(self) -> None:
        while True:
            time.sleep(self._ask_s)  # how often hosts are asked
            lent = self._lent
            there = lent_cards(lent)
            if lent is self._lent and there != self._there:
                self._there = there
                self._nudge()
