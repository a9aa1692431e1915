"""A service manager whose units are small real HTTP servers: they take their time to load, and some stop each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from kloros_infra.ir.routing import RoutingTable, Upstream
from kloros_infra.ir.seen_unit import SeenUnit
from tests.fakes.llama_server import Delay, FakeLlamaServer

MOST_ANSWERS = 10_000


class ServerUnits:
    """Implements `daemon.ports.UnitControl` for the instances of a table.

    Each answer takes `answer_s` and each load `load_s`. What is started beyond a card's capacity, beside another
    instance of its model, or on a card that is not there (`absent`), is a mistake that `mistakes` tells of.
    """

    def __init__(self, table: RoutingTable, *, answer_s: float, load_s: float) -> None:
        self._upstreams = {u.unit: u for model in table.models for u in model.upstreams}
        self._models = {u.unit: model.id for model in table.models for u in model.upstreams}
        self._capacities = {capacity.card: capacity.mib for capacity in table.capacities}
        self._answer_s = answer_s
        self._load_s = load_s
        self._servers: dict[str, FakeLlamaServer] = {}
        self._pids: dict[str, int] = {}
        self._count = 0
        self._loads: set[asyncio.TimerHandle] = set()
        self.absent: set[str] = set()
        self.orders: list[tuple[str, str]] = []
        self.mistakes: list[str] = []

    def pid(self, unit: str) -> int:
        """Tell one process of a unit from the next; 0 while there is none."""
        return self._pids.get(unit, 0)

    async def start(self, unit: str) -> None:
        self.orders.append(("start", unit))
        if unit in self._servers:
            return
        self._look_for_mistakes(unit)
        server = FakeLlamaServer("one two three")
        server.faults = deque([Delay(self._answer_s)] * MOST_ANSWERS)
        server.is_loading = True
        self._servers[unit] = server
        self._count += 1
        self._pids[unit] = self._count
        await server.start(self._upstreams[unit].port)
        self._loads.add(asyncio.get_running_loop().call_later(self._load_s, setattr, server, "is_loading", False))

    def _look_for_mistakes(self, unit: str) -> None:
        running = [*self._servers, unit]
        for card, mib in self._capacities.items():
            used = sum(share.mib for each in running for share in self._upstreams[each].shares if share.card == card)
            if used > mib:
                self.mistakes.append(f"{unit} starts, and {running} take {used} of {mib} MiB of {card}")
        mine = self._upstreams[unit]
        if any(share.card in self.absent for share in mine.shares):
            self.mistakes.append(f"{unit} starts on a card that is not there")
        beside = [each for each in self._servers if self._models[each] == self._models[unit]]
        if beside:
            self.mistakes.append(f"{unit} starts beside {beside}")

    async def stop(self, unit: str) -> None:
        self.orders.append(("stop", unit))
        await self._end(unit)

    async def restart(self, unit: str) -> None:
        self.orders.append(("restart", unit))
        await self._end(unit)
        await self.start(unit)

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        known = (unit for unit in units if unit in self._upstreams)
        return {unit: SeenUnit(is_up=unit in self._servers, pid=self.pid(unit)) for unit in known}

    async def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        """End every server."""
        for load in self._loads:
            load.cancel()
        for unit in tuple(self._servers):
            await self._end(unit)

    def upstream(self, unit: str) -> Upstream:
        """Give what a unit serves."""
        return self._upstreams[unit]

    async def _end(self, unit: str) -> None:
        server = self._servers.pop(unit, None)
        self._pids.pop(unit, None)
        if server is not None:
            await server.stop()
