"""A bridge on a free port before upstreams of the test's own, and ways to talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import httpx

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_framing import HttpLimits
from kloros_infra.daemon.http_server import HttpServer, serve
from kloros_infra.daemon.upstream import UpstreamLimits, UpstreamPool
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.routing import RoutedBridge, RoutedPurpose
from tests.factories import a_routed_model, a_routed_persona, a_routing_table, an_upstream
from tests.fakes.hands import FakeHands, a_desk
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.scripted_upstream import Play, ScriptedUpstream

QUICK = UpstreamLimits(connect_s=0.5, whole_answer_s=0.3, sweep_s=0.01)
PATIENT = UpstreamLimits()
QUICK_BRIDGE = RoutedBridge(host="127.0.0.1", ports=(0,), first_byte_timeout_s=0.3, stall_timeout_s=0.3)
QUICK_CLIENTS = HttpLimits(
    head_timeout_s=0.3, body_timeout_s=0.3, idle_timeout_s=0.5, stalled_reader_timeout_s=0.3, drain_s=2.0
)
CHAT, STREAM = (
    {"messages": [{"role": "user", "content": "hi"}]},
    {"messages": [{"role": "user", "content": "hi"}], "stream": True},
)
PERSONA = a_routed_persona(
    id="doctor", model_id="small", system_prompt="Be brief.", sampling={"temperature": 0.1}, stop=()
)


class House:
    """A bridge and what a test needs to talk to it."""

    def __init__(self, server: HttpServer, desk: Desk, hands: FakeHands) -> None:
        self.server = server
        self.desk = desk
        self.hands = hands
        self.port = server.ports[0]
        self.web = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def in_flight(self) -> int:
        return sum(runtime["active_requests"] for runtime in self.desk.health()["runtimes"])


@asynccontextmanager
async def a_house(
    port: int,
    *others: int,
    limits: HttpLimits | None = None,
    patience: UpstreamLimits = QUICK,
    more: Mapping[str, ModelKind] | None = None,
) -> AsyncIterator[House]:
    """Open a bridge before upstreams on these ports: `small` on the first, then `spare`, …; `more` on the first."""
    names = ("small", "spare", "third")
    chats = [
        a_routed_model(name, an_upstream(f"{name}-cpu_only", port=each, parallel=64), aliases=(f"{name}:1b",))
        for name, each in zip(names, (port, *others), strict=False)
    ]
    vectors = a_routed_model("vectors", an_upstream("vectors-cpu_only", port=port), kind=ModelKind.EMBEDDING)
    purpose = RoutedPurpose(name="fast", candidates=names[: len(chats)], otherwise=None, is_default=True)
    embed = RoutedPurpose(name="embed", candidates=("vectors",), otherwise=None, is_default=False)
    further = (
        a_routed_model(name, an_upstream(f"{name}-cpu_only", port=port), kind=kind)
        for name, kind in (more or {}).items()
    )
    bridge = QUICK_BRIDGE if patience is QUICK else None
    table = a_routing_table(*chats, vectors, *further, purposes=(purpose, embed), personas=(PERSONA,), bridge=bridge)
    desk, hands = a_desk(table, SystemClock())
    pool = UpstreamPool(patience)
    try:
        async with serve(desk, pool, host="127.0.0.1", ports=(0,), limits=limits) as server:
            house = House(server, desk, hands)
            async with house.web:
                yield house
    finally:
        desk.close()
        await pool.close()


def scripted(
    test: Callable[[House, ScriptedUpstream], Awaitable[None]],
    *plays: Play,
    limits: HttpLimits | None = None,
    more: Mapping[str, ModelKind] | None = None,
) -> None:
    """Run a test between a bridge and an upstream that plays."""

    async def within() -> None:
        async with ScriptedUpstream(*plays) as upstream, a_house(upstream.port, limits=limits, more=more) as house:
            await test(house, upstream)

    asyncio.run(within())


def faked(test: Callable[[House, FakeLlamaServer], Awaitable[None]], limits: HttpLimits | None = None) -> None:
    """Run a test between a bridge and a fake llama-server."""

    async def within() -> None:
        fake = FakeLlamaServer("one two three")
        async with fake as upstream, a_house(upstream.port, limits=limits, patience=PATIENT) as house:
            await test(house, upstream)

    asyncio.run(within())


def a_post(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """Write a chat request."""
    fields = b"".join(header + b"\r\n" for header in (*headers, b"Content-Length: %d" % (length or len(body))))
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n%b\r\n%b" % (fields, body)


async def send_raw(port: int, data: bytes) -> tuple[int, bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """Send bytes; give status and head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, reader, writer


async def answer_to(port: int, data: bytes) -> tuple[int, bytes]:
    """Send bytes; give status and body."""
    status, head, reader, writer = await send_raw(port, data)
    length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    async with asyncio.timeout(5):
        body = await reader.readexactly(length)
    writer.close()
    return status, body


async def until(is_so: Callable[[], bool], timeout_s: float = 2.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
