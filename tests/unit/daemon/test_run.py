"""What a router does before it has its addresses: nothing that another one would notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.line_journal import LineJournal
from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_problems import cannot_listen
from kloros_infra.daemon.run import Outside, Stop, run_router
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.effects import Allocated, AllocationChange
from kloros_infra.router.lease import journal_line
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.bus import FakeBus
from tests.fakes.unit_control import FakeUnitControl

LEASE = Allocated(AllocationChange.CREATED, "alloc_1", "req_1", "small", "cpu_only", "small-cpu_only", 1000.0, 600.0)


def test_a_router_whose_port_is_taken_leaves_the_others_journal_and_units_alone(tmp_path: Path) -> None:
    journal = tmp_path / "leases"
    ended = {"change": "released", "allocation_id": "alloc_0"}
    text = f"{journal_line(LEASE, epoch_offset_s=0.0)}{ended}\n"
    journal.write_text(text)
    model = a_routed_model("small", an_upstream("small-cpu_only").model_copy(update={"preload": True}))
    table = a_routing_table(model).model_copy(update={"leases_file": str(journal)})
    (tmp_path / "routing.json").write_text(table.model_dump_json())
    units = FakeUnitControl([model.upstreams[0].unit])

    @asynccontextmanager
    async def connect_bus(_: RoutedBus, __: Sequence[str]) -> AsyncIterator[FakeBus]:
        yield FakeBus()

    @asynccontextmanager
    async def serve_http(_: Desk, host: str, ports: Sequence[int]) -> AsyncIterator[None]:
        raise ObstacleError([cannot_listen(host, ports[0], "address already in use")])
        yield

    async def test() -> None:
        outside = Outside(
            watch=lambda path: WatchedFile(Path(path)),
            connect_bus=connect_bus,
            serve_http=serve_http,
            upstreams=UpstreamPool(),
            clock=SystemClock(),
            units=units,
            open_journal=lambda path: LineJournal(Path(path)),
        )
        with pytest.raises(ObstacleError):
            await run_router(str(tmp_path / "routing.json"), outside, stop=Stop())

    asyncio.run(test())
    assert journal.read_text() == text
    assert units.orders == []
