"""Watch what others use of the cards, and tell the desk when it changes.

A process that ends gives its memory back a moment later, and until then that is nobody's: so a rise is told only once
it was seen twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.own_thread import OwnThread
from kloros_infra.daemon.ports import CardMemory, UnitControl
from kloros_infra.errors import UnitError
from kloros_infra.ir.seen_card import SeenCard
from kloros_infra.router.card_use import foreign_mib
from kloros_infra.router.events import CardsSeen

log = logging.getLogger(__name__)

WORTH_TELLING_MIB = 64


@dataclass(frozen=True, slots=True)
class LookTimes:
    """How often cards are looked at; less and less often while no driver answers, up to `longest_s`."""

    look_s: float = 5.0
    again_s: float = 0.5
    answer_s: float = 10.0
    """A driver that takes longer hangs; waking a card that sleeps takes one or two seconds."""
    longest_s: float = 60.0


class CardWatch:
    """Looks every few seconds, and at once where an instance is started."""

    def __init__(self, desk: Desk, units: UnitControl, cards: CardMemory, *, times: LookTimes | None = None) -> None:
        self._desk = desk
        self._units = units
        self._cards = cards
        self._times = times or LookTimes()
        self._told: dict[str, int] = {}
        self._hurry = asyncio.Event()
        self._thread = OwnThread()
        self._mute_looks = 0
        """Looks in a row that no driver answered."""

    def hurry(self) -> None:
        """Look at once."""
        self._hurry.set()

    async def follow(self) -> None:
        """Look for ever: a driver that does not answer may be loaded, updated or reset."""
        while True:
            pause_s = min(self._times.look_s * 2 ** min(self._mute_looks, 10), self._times.longest_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
            self._hurry.clear()
            await self.look()

    async def look(self) -> None:
        """Tell what has changed since it was told."""
        found = await self._seen()
        if any(mib - self._told.get(card, 0) >= WORTH_TELLING_MIB for card, mib in found.items()):
            await asyncio.sleep(self._times.again_s)
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
            cards = await self._read()
            pids = {name: {*family, *before.get(name, ())} for name, family in (await self._pids()).items()}
        except UnitError:
            return {}  # whoever keeps the units says so
        if cards is None:
            return {}
        return foreign_mib(table, cards, {**before, **pids})

    async def _read(self) -> tuple[SeenCard, ...] | None:
        """Ask the driver; while it does not answer, what is known of the cards stays as it was."""
        if self._thread.is_busy:
            return None
        try:
            cards = await self._thread.run(self._cards.read, limit_s=self._times.answer_s)
        except TimeoutError:
            log.warning("the driver of the cards hangs: what others use of them is taken to be as it was")
            cards = None
        self._mute_looks = 0 if cards is not None else self._mute_looks + 1
        return cards

    async def _pids(self) -> dict[str, Collection[int]]:
        """Name the processes of each instance that runs."""
        upstreams = [upstream for model in self._desk.table.models for upstream in model.upstreams if upstream.shares]
        states = await self._units.states(tuple(upstream.unit for upstream in upstreams))
        running = {u.instance: states[u.unit].pid for u in upstreams if u.unit in states and states[u.unit].pid}
        return {instance: self._cards.family(pid) for instance, pid in running.items()}
