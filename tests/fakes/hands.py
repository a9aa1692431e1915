"""Hands of a desk in memory: targets are as healthy as the test says, and orders are kept."""

from __future__ import annotations

import asyncio
from collections import deque

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.ports import Clock
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Allocated, Announce, Poll
from kloros_infra.router.events import Polled, Ticked, UnitFailed, UnitSeen, UnitStopped, Verdict


class FakeHands:
    """Implements `daemon.desk.Hands`; a target is healthy unless it is named in `verdicts`, and no unit starts."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.verdicts: dict[str, Verdict] = {}
        self.orders: list[tuple[str, str]] = []
        self.allocations: deque[Allocated] = deque(maxlen=100)
        self.announcements: list[Announce] = []
        desk.employ(self)

    def start(self, instance: str) -> None:
        self.orders.append(("start", instance))
        self._later(UnitFailed(instance, "nobody starts it here."))

    def stop(self, instance: str) -> None:
        self.orders.append(("stop", instance))
        self._later(UnitStopped(instance))

    def restart(self, instance: str) -> None:
        self.orders.append(("restart", instance))
        self._later(UnitFailed(instance, "nobody starts it here."))

    def poll(self, poll: Poll) -> None:
        name = poll.target.name
        self._desk.tell(Polled(name, self.verdicts.get(name, Verdict.HEALTHY)))

    def allocated(self, allocated: Allocated) -> None:
        self.allocations.append(allocated)

    def announce(self, announce: Announce) -> None:
        self.announcements.append(announce)

    def _later(self, event: UnitFailed | UnitStopped) -> None:
        asyncio.get_running_loop().call_soon(self._desk.tell, event)


def a_desk(table: RoutingTable, clock: Clock, *, profile: str = "cpu_only") -> tuple[Desk, FakeHands]:
    """Open a desk whose targets are all healthy; instances of other profiles do not run."""
    desk = Desk(Core(table, profile=profile, now=clock.now()), clock)
    hands = FakeHands(desk)
    for upstream in (upstream for model in table.models for upstream in model.upstreams):
        if upstream.profile != profile:
            desk.tell(UnitSeen(upstream.instance, is_up=False))
    desk.tell(Ticked())
    return desk, hands
