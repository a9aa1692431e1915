"""A router's bus face on a real bus, with upstreams in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from kloros_infra.adapters.chembus import BusPeer, BusProxy
from kloros_infra.daemon.bus_face import BusFace
from kloros_infra.daemon.directory import RoutingDirectory
from kloros_infra.ir.messages import REQUEST_TOPIC
from kloros_infra.ir.routing import RoutedBus
from tests.factories import a_routing_table
from tests.fakes.bus import StillClock
from tests.fakes.upstreams import FakeUpstreams

LOOPS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def a_proxy() -> BusProxy:
    """Run a proxy on free ports."""
    return BusProxy("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")


def addresses_of(proxy: BusProxy) -> RoutedBus:
    """Name the two sides of a proxy."""
    return RoutedBus(xsub=proxy.xsub, xpub=proxy.xpub)


@asynccontextmanager
async def a_router(bus: RoutedBus, upstreams: FakeUpstreams | None = None) -> AsyncIterator[BusFace]:
    """Answer `llm.request` on a bus."""
    clock, upstreams = StillClock(), upstreams or FakeUpstreams()
    directory = RoutingDirectory(a_routing_table(), profile="cpu_only", clock=clock)
    for upstream in directory.due():
        directory.polled(upstream, is_healthy=True)
    async with BusPeer(bus, [REQUEST_TOPIC]) as peer:
        face = BusFace(peer, directory, upstreams, clock)
        serving = asyncio.create_task(face.serve())
        try:
            yield face
        finally:
            serving.cancel()
            await face.cut()
