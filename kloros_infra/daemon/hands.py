"""All that carries out what the desk wants done and cannot wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from kloros_infra.daemon.card_watch import CardWatch
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.health_checks import Checker
from kloros_infra.daemon.lease_log import LeaseLog
from kloros_infra.daemon.ports import HealthChecks, UnitControl
from kloros_infra.daemon.unit_keeper import UnitKeeper, UnitLimits
from kloros_infra.router.effects import Allocated, Announce, Poll
from kloros_infra.router.events import Event, Ticked, UnitFailed, UnitStarted, UnitStopped

FIRST_POLLS_S = 1.5
FIRST_LOOK_S = 2.0


class DeskHands:
    """Implements `daemon.desk.Hands`; without a service manager units are others' to start."""

    def __init__(
        self,
        desk: Desk,
        checks: HealthChecks,
        leases: LeaseLog,
        *,
        units: UnitControl | None = None,
        unit_limits: UnitLimits | None = None,
    ) -> None:
        self._desk = desk
        self._leases = leases
        self._units = None if units is None else UnitKeeper(desk, units, unit_limits)
        self._cards: CardWatch | None = None
        self._checker = Checker(desk, checks, self._on_healthy)
        self._lookups: set[asyncio.Task[bool]] = set()
        self._early: list[Poll] | None = None
        """Polls that wait for the first look at the cards: what is found to be down may be started."""
        self.announcer: Callable[[Announce], None] | None = None
        """Told of what is to be said aloud."""
        desk.employ(self)

    def watch_cards(self, watch: CardWatch) -> None:
        """Have what others use of the cards looked at: at once, whenever an instance is started, and all the time."""
        self._cards, self._early = watch, []

    async def open(self) -> None:
        """Find out how units and targets are, before anybody asks."""
        await self._checker.look_at_toggles()
        if self._cards is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LOOK_S):
                    await self._cards.look()
        early, self._early = self._early or (), None
        for poll in early:
            self._checker.poll(poll)
        # What answers is ready, so it is asked before its unit, which only says that something runs.
        self._desk.tell(Ticked())
        try:
            async with asyncio.timeout(FIRST_POLLS_S):
                await self._checker.answered()
        except TimeoutError:
            pass  # requests wait for those that answer later
        if self._units is not None:
            await self._units.look()

    async def follow(self) -> None:
        """Look at units, cards and toggles for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checker.follow_toggles())
            if self._units is not None:
                group.create_task(self._units.follow())
            if self._cards is not None:
                group.create_task(self._cards.follow())

    async def close(self) -> None:
        """Leave off; units stay as they are."""
        for lookup in tuple(self._lookups):
            lookup.cancel()
        await self._checker.close()
        if self._units is not None:
            await self._units.close()
        await self._leases.close()

    # Called by the desk.

    def start(self, instance: str) -> None:
        if self._cards is not None:
            self._cards.hurry()
        if self._units is not None:
            self._units.start(instance)
        else:
            self._find_running(instance)

    def stop(self, instance: str) -> None:
        if self._units is not None:
            self._units.stop(instance)
        else:
            # Whoever started it may go on with it; a poll will tell.
            asyncio.get_running_loop().call_soon(self._desk.tell, UnitStopped(instance))

    def restart(self, instance: str) -> None:
        if self._units is not None:
            self._units.restart(instance)
        else:
            self._find_running(instance)

    def poll(self, poll: Poll) -> None:
        if self._early is None:
            self._checker.poll(poll)
        else:
            self._early.append(poll)

    def allocated(self, allocated: Allocated) -> None:
        self._leases.add(allocated)

    def announce(self, announce: Announce) -> None:
        if self.announcer is not None:
            self.announcer(announce)

    def _find_running(self, instance: str) -> None:
        """Where there is no service manager, take what somebody else has started, if anybody has."""
        task = asyncio.ensure_future(self._checker.is_there(instance))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)
        task.add_done_callback(lambda found: found.cancelled() or self._desk.tell(_found(instance, found.result())))

    def _on_healthy(self, target: str) -> None:
        if self._units is not None:
            self._units.settled(target)


def _found(instance: str, is_there: bool) -> Event:
    nobody = UnitFailed(instance, "this router was given no service manager to start it with.")
    return UnitStarted(instance) if is_there else nobody
