"""Real llama-servers that die, hang, load and do not load, behind the bridge: nothing is lost without a word."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.hands import DeskHands
from kloros_infra.daemon.http_server import serve
from kloros_infra.daemon.lease_log import LeaseLog
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.ir.routing import RoutedBridge, RoutedPurpose, RoutingTable
from kloros_infra.router.core import Core
from tests.bridge_house import until
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.process_units import ProcessUnits
from tests.free_ports import free_ports

pytestmark = pytest.mark.real_model

SMALL, SPARE = "llama@small-cpu_only.service", "llama@spare-cpu_only.service"
FIRST_BYTE_S = 60.0
LONG = {
    "messages": [{"role": "user", "content": "Tell me a long story about a lighthouse."}],
    "max_tokens": 3000,
    "ignore_eos": True,
    "temperature": 0,
    "stream": True,
}
SHORT = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 4, "temperature": 0}


@dataclass
class Router:
    """A bridge with its desk, before units that are real processes."""

    desk: Desk
    units: ProcessUnits
    web: httpx.AsyncClient

    def status(self, instance: str) -> str:
        runtimes = self.desk.health()["runtimes"]
        return next((runtime["status"] for runtime in runtimes if runtime["profile"] == instance), "none")

    async def begun(self, body: dict[str, object]) -> tuple[httpx.Response, AsyncIterator[bytes], bytes]:
        """Ask for a stream, and read its first piece."""
        request = self.web.build_request("POST", "/v1/chat/completions", json=body)
        answer = await self.web.send(request, stream=True)
        pieces = answer.aiter_raw()
        return answer, pieces, await anext(pieces)


def a_table(ports: tuple[int, int], **more: Any) -> RoutingTable:
    names = ("small", "spare")
    models = [
        a_routed_model(name, an_upstream(f"{name}-cpu_only", port=port, parallel=2, preload=False))
        for name, port in zip(names, ports, strict=True)
    ]
    bridge = RoutedBridge(host="127.0.0.1", ports=(0,), first_byte_timeout_s=FIRST_BYTE_S, stall_timeout_s=10.0)
    purpose = RoutedPurpose(name="fast", candidates=names, otherwise=None, is_default=True, **more)
    return a_routing_table(*models, purposes=(purpose,), bridge=bridge)


@asynccontextmanager
async def a_router(folder: Path, *, running: tuple[str, ...] = (), **more: Any) -> AsyncIterator[Router]:
    """Serve in front of two units; those named run and are ready."""
    first, second = free_ports(2)
    table, clock, pool = a_table((first, second), **more), SystemClock(), UpstreamPool()
    units = ProcessUnits(folder, {SMALL: first, SPARE: second})
    desk = Desk(Core(table, profile="cpu_only", now=clock.now()), clock)
    hands = DeskHands(desk, pool, LeaseLog(None, clock), units=units)
    try:
        for unit in running:
            await units.start(unit)
        await hands.open()
        following = asyncio.create_task(hands.follow())
        async with serve(desk, pool, host="127.0.0.1", ports=(0,)) as server:
            url = f"http://127.0.0.1:{server.ports[0]}"
            async with httpx.AsyncClient(base_url=url, timeout=90) as web:
                router = Router(desk, units, web)
                for unit in running:
                    instance = unit.removeprefix("llama@").removesuffix(".service")
                    await until(lambda instance=instance: router.status(instance) == "healthy", 60)  # type: ignore[misc]  # bound now
                yield router
        following.cancel()
    finally:
        desk.close()
        await hands.close()
        await units.close()
        await pool.close()


def run(test: Callable[[Router], Awaitable[None]], folder: Path, *running: str, **more: Any) -> None:
    async def within() -> None:
        async with a_router(folder, running=running, **more) as router:
            await test(router)

    asyncio.run(within())


def test_a_stopped_model_is_started_when_it_is_asked_for(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        assert router.status("small-cpu_only") in ("unknown", "stopped")
        answers = await asyncio.gather(*(router.web.post("/v1/chat/completions", json=SHORT) for _ in range(6)))
        assert [answer.status_code for answer in answers] == [200] * 6
        assert {answer.headers["x-kloros-instance"] for answer in answers} == {"small-cpu_only"}
        assert router.units.orders == [("start", SMALL)], "all wait for one start"

    run(test, tmp_path)


def test_a_model_that_does_not_load_is_refused_with_its_last_words(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        router.units.weights = tmp_path / "truncated.gguf"
        router.units.weights.write_bytes(b"GGUF\x03\x00\x00\x00")
        answer = await router.web.post("/v1/chat/completions", json={**SHORT, "model": "small"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "KI872")
        assert "gguf" in answer.json()["error"]["message"].lower()
        answer = await router.web.post("/v1/chat/completions", json={**SHORT, "model": "small"})
        assert answer.status_code == 503
        assert router.units.orders == [("start", SMALL), ("stop", SMALL)], "it is not tried again, by nobody"

    run(test, tmp_path)


def test_killed_before_the_first_byte_another_answers(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        router.units.send(SMALL, signal.SIGSTOP)  # so that nothing of the answer comes before it is killed
        asked = asyncio.create_task(router.web.post("/v1/chat/completions", json=SHORT))
        await until(lambda: in_flight(router, "small-cpu_only") == 1)
        router.units.send(SMALL, signal.SIGKILL)
        answer = await asked
        assert (answer.status_code, answer.headers["x-kloros-attempts"]) == (200, "2")
        assert answer.headers["x-kloros-instance"] == "spare-cpu_only"
        await until(lambda: router.status("small-cpu_only") == "healthy", 60)

    run(test, tmp_path, SMALL, SPARE)


def test_killed_before_the_first_byte_with_no_other_it_waits_for_the_restart(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        router.units.send(SMALL, signal.SIGSTOP)
        asked = [
            asyncio.create_task(router.web.post("/v1/chat/completions", json={**SHORT, "model": "small"}))
            for _ in range(4)
        ]
        await until(lambda: in_flight(router, "small-cpu_only") == 2)
        router.units.send(SMALL, signal.SIGKILL)
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [200] * 4
        assert {answer.headers["x-kloros-attempts"] for answer in answers} == {"1", "2"}

    run(test, tmp_path, SMALL)


def test_hung_before_the_first_byte_another_answers_within_two_seconds(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        router.units.send(SMALL, signal.SIGSTOP)
        begun = asyncio.get_running_loop().time()
        asked = asyncio.create_task(router.web.post("/v1/chat/completions", json=SHORT))
        await until(lambda: in_flight(router, "spare-cpu_only") == 1, 5)
        assert asyncio.get_running_loop().time() - begun < 2.5, "half a second of doubt, and three polls of as long"
        answer = await asked
        assert (answer.status_code, answer.headers["x-kloros-instance"]) == (200, "spare-cpu_only")
        await until(lambda: ("restart", SMALL) in router.units.orders)
        await until(lambda: router.status("small-cpu_only") == "healthy", 60)

    run(test, tmp_path, SMALL, SPARE)


def test_killed_in_the_middle_of_a_stream_ends_in_an_error(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        answer, pieces, data = await router.begun(LONG)
        router.units.send(SMALL, signal.SIGKILL)
        data += await rest_of_cut(pieces)
        await answer.aclose()
        assert b"[DONE]" not in data
        event = data.rstrip(b"\n").rpartition(b"\n\n")[2]
        assert json.loads(event.removeprefix(b"event: error\ndata: "))["error"]["code"] == "KI823"
        await until(lambda: router.status("small-cpu_only") == "healthy", 60)

    run(test, tmp_path, SMALL)


def test_hung_in_the_middle_of_a_stream_ends_in_an_error_and_a_restart(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        answer, pieces, data = await router.begun(LONG)
        router.units.send(SMALL, signal.SIGSTOP)
        begun = asyncio.get_running_loop().time()
        data += await rest_of_cut(pieces)
        await answer.aclose()
        assert b"KI828" in data
        assert asyncio.get_running_loop().time() - begun < 4.0
        await until(lambda: ("restart", SMALL) in router.units.orders)

    run(test, tmp_path, SMALL)


def test_where_the_purpose_allows_it_a_broken_stream_goes_on_elsewhere(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        body = {**LONG, "max_tokens": 40}
        answer, pieces, data = await router.begun(body)
        while data.count(b"\n\n") < 10:
            data += await anext(pieces)
        router.units.send(SMALL, signal.SIGKILL)
        async for piece in pieces:
            data += piece
        await answer.aclose()
        assert data.endswith(b"data: [DONE]\n\n")
        assert b"event: error" not in data
        events = [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n")[:-2]]
        said = [event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]]
        # The same model at temperature 0 goes on as if nothing had happened: both halves are of one story.
        assert 30 <= sum(bool(text) for text in said) <= 41

    run(test, tmp_path, SMALL, SPARE, can_continue_elsewhere=True)


def test_a_client_that_leaves_the_line_is_forgotten(tmp_path: Path) -> None:
    async def test(router: Router) -> None:
        answers = [await router.begun({**LONG, "model": "small"}) for _ in range(2)]
        waiting = asyncio.create_task(router.web.post("/v1/chat/completions", json={**SHORT, "model": "small"}))
        await until(lambda: queued(router, "small-cpu_only") == 1)
        waiting.cancel()
        await until(lambda: queued(router, "small-cpu_only") == 0)
        for answer, _, _ in answers:
            await answer.aclose()
        await until(lambda: in_flight(router, "small-cpu_only") == 0)
        assert (await router.web.post("/v1/chat/completions", json={**SHORT, "model": "small"})).status_code == 200

    run(test, tmp_path, SMALL)


async def rest_of_cut(pieces: AsyncIterator[bytes]) -> bytes:
    """Read on to the end of an answer that must not end as a whole one does."""
    data = b""
    try:
        async for piece in pieces:
            data += piece
    except httpx.RemoteProtocolError:
        return data
    raise AssertionError("it ended cleanly")


def in_flight(router: Router, instance: str) -> int:
    return figure(router, instance, "active_requests")


def queued(router: Router, instance: str) -> int:
    return figure(router, instance, "queued_requests")


def figure(router: Router, instance: str, name: str) -> int:
    runtimes = router.desk.health()["runtimes"]
    return next(int(runtime[name]) for runtime in runtimes if runtime["profile"] == instance)
