"""Join adapters to what the router needs of the world, as `cli.wiring` does for the commands."""
# ruff: noqa: PLC0415 - adapters are imported where they are needed, so that nothing else pays for them

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kloros_infra.adapters.nvml_memory import NvmlCards
    from kloros_infra.daemon.ports import UnitControl
    from kloros_infra.daemon.run import Outside
    from kloros_infra.ir.seen_card import SeenCard


class CardsOnDemand:
    """Implements `daemon.ports.CardMemory`; NVML's bindings are imported when somebody first looks, in its thread.

    They take 20 ms, and where the table names no card nobody looks.
    """

    @cached_property
    def _cards(self) -> NvmlCards:
        from kloros_infra.adapters.nvml_memory import NvmlCards

        return NvmlCards()

    def read(self) -> tuple[SeenCard, ...] | None:
        return self._cards.read()

    def family(self, pid: int) -> frozenset[int]:
        return self._cards.family(pid)


def unit_control(root: Path | None) -> UnitControl | None:
    """Give the router who starts and stops the units of its root; None where there is nobody."""
    if root is None:
        return None
    if root == Path("/"):
        from kloros_infra.adapters.systemd import is_available
        from kloros_infra.adapters.systemd_units import SystemdUnits

        return SystemdUnits() if is_available() else None
    from kloros_infra.adapters.supervised_units import SupervisedUnits, is_supervised

    return SupervisedUnits(root) if is_supervised(root) else None


@asynccontextmanager
async def router_outside(root: Path | None = None) -> AsyncIterator[Outside]:
    """Give the router the real world, on its loop; close connections to llama-servers at the end."""
    from kloros_infra.adapters.bus_address import bus_addresses
    from kloros_infra.adapters.chembus import BusPeer
    from kloros_infra.adapters.clock import SystemClock
    from kloros_infra.adapters.credentials import CredentialFolder
    from kloros_infra.adapters.direct_endpoint import DirectEndpoint
    from kloros_infra.adapters.line_journal import journal_in_place
    from kloros_infra.adapters.watched_file import WatchedFile
    from kloros_infra.cli.router_root import operators
    from kloros_infra.daemon.control_socket import serve_control
    from kloros_infra.daemon.http_server import serve
    from kloros_infra.daemon.run import Outside
    from kloros_infra.daemon.upstream import UpstreamPool

    secrets = os.environ.get("CREDENTIALS_DIRECTORY")
    upstreams = UpstreamPool(credentials=CredentialFolder(Path(secrets) if secrets else None))
    try:
        yield Outside(
            watch=lambda path: WatchedFile(Path(path)),
            connect_bus=lambda bus, topics: BusPeer(bus_addresses(os.environ, bus), topics),
            serve_http=lambda desk, host, ports: serve(desk, upstreams, host=host, ports=ports),
            upstreams=upstreams,
            clock=SystemClock(),
            open_journal=lambda path: journal_in_place(Path(path)),
            open_direct=DirectEndpoint,
            units=unit_control(root),
            cards=CardsOnDemand(),
            serve_control=lambda desk, path: serve_control(desk, path, uids=operators(root)),
        )
    finally:
        await upstreams.close()
