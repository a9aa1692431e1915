"""A service manager that fails in ways of its own, or takes as long as it may, does not end the router."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.unit_keeper import UnitKeeper, UnitLimits
from kloros_infra.ir.seen_unit import SeenUnit
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Effect
from kloros_infra.router.events import Event, UnitFailed, UnitSeen, UnitStarted, UnitStopped
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.unit_control import FakeUnitControl
from tests.unit.daemon.test_desk import until

INSTANCE, UNIT = "small-cpu_only", "llama@small-cpu_only.service"
DRAIN_S = 0.3
SMALL = an_upstream(preload=False).model_copy(update={"drain_s": DRAIN_S})
LIMITS = UnitLimits(start_s=0.05, stop_s=0.05, drain_margin_s=0.3)


class ListeningDesk(Desk):
    """A desk that keeps what it is told."""

    def __init__(self) -> None:
        clock = SystemClock()
        super().__init__(Core(a_routing_table(a_routed_model("small", SMALL)), profile="cpu_only", now=0.0), clock)
        self.told: list[Event] = []

    def tell(self, event: Event) -> list[Effect]:
        self.told.append(event)
        return []


class OddManager(FakeUnitControl):
    """Answers nonsense while `is_odd`, and takes DRAIN_S for each job."""

    is_odd = False

    async def start(self, unit: str) -> None:
        self._puzzle()
        await asyncio.sleep(DRAIN_S)
        await super().start(unit)

    async def stop(self, unit: str) -> None:
        self._puzzle()
        await asyncio.sleep(DRAIN_S)
        await super().stop(unit)

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        self._puzzle()
        return await super().states(units)

    def _puzzle(self) -> None:
        if self.is_odd:
            raise KeyError("what is this?")


def run(test: Callable[[UnitKeeper, OddManager, ListeningDesk], Awaitable[None]]) -> None:
    async def within() -> None:
        desk, units = ListeningDesk(), OddManager([UNIT])
        keeper = UnitKeeper(desk, units, LIMITS)
        try:
            async with asyncio.timeout(10):
                await test(keeper, units, desk)
        finally:
            await keeper.close()
            desk.close()

    asyncio.run(within())


def test_an_order_that_meets_a_defect_ends_as_one_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def test(keeper: UnitKeeper, units: OddManager, desk: ListeningDesk) -> None:
        units.is_odd = True
        keeper.start(INSTANCE)
        await until(lambda: len(desk.told) == 1)
        assert isinstance(desk.told[0], UnitFailed)
        assert UNIT in desk.told[0].reason
        units.is_odd = False
        await keeper.look()
        assert desk.told[1:] == [UnitSeen(INSTANCE, False, 0, False)]

    run(test)
    assert "what is this?" in caplog.text


def test_a_look_that_meets_a_defect_is_told_once_and_the_next_one_tells_how_units_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(keeper: UnitKeeper, units: OddManager, desk: ListeningDesk) -> None:
        units.is_odd = True
        for _ in range(2):
            await keeper.look()
        assert desk.told == []
        units.is_odd = False
        await keeper.look()
        assert len(desk.told) == 1

    run(test)
    assert caplog.text.count("Traceback") == 1


def test_a_unit_that_drains_may_stop_later_and_another_start_behind_it() -> None:
    async def test(keeper: UnitKeeper, units: OddManager, desk: ListeningDesk) -> None:
        keeper.start(INSTANCE)
        await until(lambda: desk.told == [UnitStarted(INSTANCE)])
        keeper.stop(INSTANCE)
        await until(lambda: desk.told[1:] == [UnitStopped(INSTANCE)])

    run(test)
