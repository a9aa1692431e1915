"""Watch what others use of the cards, and tell the desk when it changes.

A process that ends gives its memory back a moment later, and until then that is nobody's: so a rise is told only once
it was seen twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.ports import CardMemory, UnitControl
from kloros_infra.errors import UnitError
from kloros_infra.router.card_use import foreign_mib
from kloros_infra.router.events import CardsSeen

LOOK_S = 5.0
AGAIN_S = 0.5
WORTH_TELLING_MIB = 64


class CardWatch:
    """Looks every LOOK_S, and at once where an instance is started."""

    def __init__(self, desk: Desk, units: UnitControl, cards: CardMemory, *, again_s: float = AGAIN_S) -> None:
        self._desk = desk
        self._units = units
        self._cards = cards
        self._again_s = again_s
        self._told: dict[str, int] = {}
        self._hurry = asyncio.Event()
        self._has_driver = True

    def hurry(self) -> None:
        """Look at once."""
        self._hurry.set()

    async def follow(self) -> None:
        """Look as long as there is a driver that answers."""
        while self._has_driver:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._hurry.wait()
            self._hurry.clear()
            await self.look()

    async def look(self) -> None:
        """Tell what has changed since it was told."""
        found = await self._seen()
        if any(mib - self._told.get(card, 0) >= WORTH_TELLING_MIB for card, mib in found.items()):
            await asyncio.sleep(self._again_s)
            again = await self._seen()
            found = {card: min(mib, again[card]) for card, mib in found.items() if card in again}
        if any(abs(mib - self._told.get(card, 0)) >= WORTH_TELLING_MIB for card, mib in found.items()):
            self._told |= found
            self._desk.tell(CardsSeen(tuple(sorted(self._told.items()))))

    async def _seen(self) -> Mapping[str, int]:
        """Say what others use of the cards of which that is known."""
        table = self._desk.table
        if not table.capacities:
            return {}
        try:
            # What has ended or begun meanwhile is of ours as well.
            before = await self._pids()
            cards = await asyncio.to_thread(self._cards.read)
            pids = {name: {*family, *before.get(name, ())} for name, family in (await self._pids()).items()}
        except UnitError:
            return {}  # whoever keeps the units says so
        if cards is None:
            self._has_driver = False
            return {}
        return foreign_mib(table, cards, {**before, **pids})

    async def _pids(self) -> dict[str, Collection[int]]:
        """Name the processes of each instance that runs."""
        upstreams = [upstream for model in self._desk.table.models for upstream in model.upstreams if upstream.shares]
        states = await self._units.states(tuple(upstream.unit for upstream in upstreams))
        running = {u.instance: states[u.unit].pid for u in upstreams if u.unit in states and states[u.unit].pid}
        return {instance: self._cards.family(pid) for instance, pid in running.items()}
