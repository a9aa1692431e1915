"""A client of a bus that a test names."""

from __future__ import annotations

from kloros_infra.client import Addresses, AsyncClient
from kloros_infra.ir.routing import RoutedBus


def a_client(bus: RoutedBus) -> AsyncClient:
    """Give a client that asks directly where the bus names an endpoint for that, else over the bus."""
    return AsyncClient(Addresses(bus.direct, bus.xsub, bus.xpub))
