"""Tables that a router meets between two releases, and such as change only what is taken up at once."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

from kloros_infra.daemon.run import Stop
from kloros_infra.ir.routing import RoutedBridge, RoutedBus
from tests.fakes.llama_server import FakeLlamaServer
from tests.integration.test_bus_to_answer import Router, a_router, replace, served_by, until

NOWHERE = RoutedBus(xsub="tcp://127.0.0.1:1", xpub="tcp://127.0.0.1:1")
OLDER = '{"version": 1, "models": []}'


def test_a_router_waits_for_a_table_of_its_own_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake:
            router = Router(tmp_path, NOWHERE, Stop(), [])
            replace(router.routing, OLDER)
            router.choose("cpu_only")
            ready = router.start()
            await until(lambda: "KI819" in caplog.text)
            assert not ready.is_set()
            router.write(served_by(fake.port))
            async with asyncio.timeout(10):
                await ready.wait()
            async with httpx.AsyncClient(base_url=router.url) as http:
                assert (await http.get("/v1/models")).status_code == 200
            router.stop.request()
            await router.finish()

    asyncio.run(main())
    assert caplog.text.count("KI819") == 1
    assert "kloros-infra apply" in caplog.text


def test_a_router_that_waits_for_a_table_ends_when_it_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        router = Router(tmp_path, NOWHERE, Stop(), [])
        replace(router.routing, OLDER)
        router.start()
        router.stop.request()
        await router.finish()
        assert router.servers == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "is_restart_needed"),
    [({"max_queued": 7}, False), ({"stall_timeout_s": 9.0}, False), ({"ports": (1,)}, True)],
)
def test_a_restart_is_asked_for_where_addresses_change_and_not_for_limits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, object], *, is_restart_needed: bool
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with FakeLlamaServer() as fake, a_router(tmp_path, NOWHERE, served_by(fake.port)) as router:
            bridge = RoutedBridge(host="127.0.0.1", ports=(0,)).model_copy(update=change)
            replace(
                router.routing,
                router.table(served_by(fake.port)).model_copy(update={"bridge": bridge}).model_dump_json(),
            )
            await until(lambda: "took up a new routing table" in caplog.text)

    asyncio.run(main())
    assert ("KI817" in caplog.text) is is_restart_needed
