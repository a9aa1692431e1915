"""A router's bus face on a real bus and a real direct endpoint, with upstreams in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop

from kloros_infra.adapters.bus_proxy import BusProxy
from kloros_infra.adapters.chembus import BusPeer
from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.direct_endpoint import DirectEndpoint
from kloros_infra.daemon.bus_service import BusService, topics
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.events import Verdict
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import a_desk
from tests.fakes.upstreams import FakeUpstreams

LOOPS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def a_proxy() -> BusProxy:
    """Run a proxy on free ports."""
    return BusProxy("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")


def addresses_of(proxy: BusProxy) -> RoutedBus:
    """Name the two sides of a proxy."""
    return RoutedBus(xsub=proxy.xsub, xpub=proxy.xpub)


@asynccontextmanager
async def a_router(
    bus: RoutedBus,
    upstreams: FakeUpstreams | None = None,
    *,
    verdicts: dict[str, Verdict] | None = None,
    dies: bool = False,
) -> AsyncIterator[BusService]:
    """Answer on a bus, and on the bus's direct endpoint if it names one; who dies takes leave of nobody.

    `verdicts` says how instances answer health checks, which is well unless they are in it.
    """
    clock, upstreams = SystemClock(), upstreams or FakeUpstreams()
    desk, hands = a_desk(a_routing_table(a_routed_model("small", an_upstream(parallel=4096))), clock)
    hands.verdicts = {} if verdicts is None else verdicts
    async with BusPeer(bus, topics(bus)) as peer, AsyncExitStack() as doors:
        direct = await doors.enter_async_context(DirectEndpoint(bus.direct)) if bus.direct else None
        service = BusService(peer, desk, upstreams, clock, direct=direct)
        service.open()
        following = asyncio.create_task(service.follow())
        try:
            yield service
        finally:
            following.cancel()
            if not dies:
                await service.cut()
            desk.close()
