"""Remote hosts behind the bridge: who is asked first, under which name, and what their refusals mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.credentials import CredentialFolder
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.hands import DeskHands
from kloros_infra.daemon.http_server import serve
from kloros_infra.daemon.lease_log import LeaseLog
from kloros_infra.daemon.upstream import UpstreamLimits, UpstreamPool
from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.ir.routing import RoutedHost
from kloros_infra.router.core import Core
from tests.bridge_house import CHAT, STREAM, until
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.scripted_upstream import Play, ScriptedUpstream, plain

HEALTHY = plain(b"{}")
OK = plain(b'{"ok":1}')


def a_host(name: str, port: int, *, priority: int = 10, **more: Any) -> RoutedHost:
    standard = {
        "kind": UpstreamKind.OLLAMA,
        "address": "127.0.0.1",
        "port": port,
        "path": "",
        "is_tls": False,
        "toggle": None,
        "credential": None,
        "health_path": "/health",
        "health_interval_s": 30.0,
        "health_timeout_s": 1.0,
        "health_failures": 3,
        "models": {"small": "qwen2.5:7b"},
    }
    return RoutedHost.model_validate({"name": name, "priority": priority, **standard, **more})


@asynccontextmanager
async def a_web(local_port: int, *hosts: RoutedHost, folder: Path | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Open a bridge before one instance and some hosts, and a client of it."""
    clock = SystemClock()
    model = a_routed_model("small", an_upstream(port=local_port, parallel=8))
    there = a_routed_model("there").model_copy(update={"upstreams": ()})
    table = a_routing_table(model, there).model_copy(update={"hosts": hosts})
    pool = UpstreamPool(UpstreamLimits(connect_s=0.5), credentials=CredentialFolder(folder))
    desk = Desk(Core(table, profile="cpu_only", now=clock.now()), clock)
    hands = DeskHands(desk, pool, LeaseLog(None, clock))
    await hands.open()
    try:
        async with serve(desk, pool, host="127.0.0.1", ports=(0,)) as server:
            url = f"http://127.0.0.1:{server.ports[0]}"
            async with httpx.AsyncClient(base_url=url, timeout=20) as web:
                yield web
    finally:
        desk.close()
        await hands.close()
        await pool.close()


Test = Callable[[httpx.AsyncClient, ScriptedUpstream, FakeLlamaServer], Awaitable[None]]


def run(test: Test, *plays: Play, folder: Path | None = None, host: Mapping[str, Any] | None = None) -> None:
    """Run a test with a host that comes first and does as it is told, and an instance that answers."""

    async def within() -> None:
        async with ScriptedUpstream(*plays) as remote, FakeLlamaServer("from here") as local:
            rig = a_host("rig", remote.port, **(host or {}))
            async with a_web(local.port, rig, folder=folder) as web:
                await test(web, remote, local)

    asyncio.run(within())


def test_a_host_that_comes_first_is_asked_by_its_own_name_for_the_model(tmp_path: Path) -> None:
    (tmp_path / "rig-key").write_text("s3cret\n")

    async def test(web: httpx.AsyncClient, remote: ScriptedUpstream, local: FakeLlamaServer) -> None:
        answer = await web.post("/v1/chat/completions", json={**CHAT, "model": "small"})
        assert (answer.json(), answer.headers["x-kloros-instance"]) == ({"ok": 1}, "rig/small")
        head, _, body = remote.requests[1].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /api/v1/chat/completions HTTP/1.1\r\n")
        assert b"\r\nAuthorization: Bearer s3cret\r\n" in head + b"\r\n"
        assert json.loads(body) == {**CHAT, "model": "qwen2.5:7b"}
        answer = await web.post("/api/chat", json={"model": "small", "messages": CHAT["messages"], "stream": False})
        assert answer.json()["message"]["content"] == "hello"
        assert json.loads(remote.requests[2].partition(b"\r\n\r\n")[2])["model"] == "qwen2.5:7b"
        assert local.requests == []

    said = plain(b'{"choices":[{"message":{"content":"hello"}}]}')
    run(test, (HEALTHY,), (OK,), (said,), folder=tmp_path, host={"path": "/api/v1", "credential": "rig-key"})


@pytest.mark.parametrize("status", [b"401 X", b"404 X", b"502 X", b"503 X"])
def test_a_host_that_cannot_serve_is_passed_over(status: bytes) -> None:
    async def test(web: httpx.AsyncClient, remote: ScriptedUpstream, _: FakeLlamaServer) -> None:
        answer = await web.post("/v1/chat/completions", json=CHAT)
        assert answer.json()["choices"][0]["message"]["content"] == "from here"
        assert (answer.headers["x-kloros-instance"], answer.headers["x-kloros-attempts"]) == ("small-cpu_only", "2")
        assert len(remote.requests) >= 2

    run(test, (HEALTHY,), (plain(b"{}", status=status),), (HEALTHY,))


def test_a_host_that_has_too_much_to_do_is_left_alone_for_as_long_as_it_says() -> None:
    async def test(web: httpx.AsyncClient, remote: ScriptedUpstream, local: FakeLlamaServer) -> None:
        for _ in range(3):
            answer = await web.post("/v1/chat/completions", json=CHAT)
            assert answer.headers["x-kloros-instance"] == "small-cpu_only"
        assert len(remote.requests) == 2, "its health, and one request"
        assert len(local.requests) == 3

    run(test, (HEALTHY,), (plain(b"{}", status=b"429 X", head=b"Retry-After: 60\r\n"),))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (b"429 X", (429, "KI874"), "takes no more requests for now"),
        (b"401 X", (502, "KI875"), "does not take the credential that this router sends"),
        (b"503 X", (502, "KI875"), "says that it cannot serve now"),
    ],
)
def test_what_no_host_serves_is_told_in_words_about_the_host(status: bytes, code: tuple[int, str], words: str) -> None:
    said = plain(b'{"error":"wrong key s3cr"}', status=status, head=b"Retry-After: 0\r\n")

    async def within() -> None:
        async with ScriptedUpstream((HEALTHY,), *[(said,)] * 12) as remote, AsyncExitStack() as stack:
            rig = a_host("rig", remote.port, models={"there": "qwen2.5:7b"})
            web = await stack.enter_async_context(a_web(0, rig))
            answer = await web.post("/v1/chat/completions", json={**CHAT, "model": "there"})
        assert (answer.status_code, answer.json()["error"]["code"]) == code
        assert words in answer.json()["error"]["message"]
        assert "s3cr" not in answer.text
        assert int(answer.headers["retry-after"]) >= 1

    asyncio.run(within())


def test_a_request_that_the_host_refuses_is_refused() -> None:
    async def test(web: httpx.AsyncClient, _: ScriptedUpstream, local: FakeLlamaServer) -> None:
        answer = await web.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()) == (400, {"error": "no"})
        assert local.requests == []

    run(test, (HEALTHY,), (plain(b'{"error":"no"}', status=b"400 X"),))


def test_a_host_that_is_away_costs_one_attempt() -> None:
    async def within() -> None:
        async with FakeLlamaServer("from here") as local:
            async with ScriptedUpstream() as gone:
                port = gone.port
            async with a_web(local.port, a_host("rig", port)) as web:
                for _ in range(8):
                    answer = await web.post("/v1/chat/completions", json=STREAM)
                    assert answer.status_code == 200
                    assert answer.content.endswith(b"data: [DONE]\n\n")
                assert answer.headers["x-kloros-attempts"] == "1", "its health or its breaker says so by then"

    asyncio.run(within())


def test_a_host_that_is_switched_off_is_not_asked() -> None:
    async def within() -> None:
        async with (
            FakeLlamaServer("from here") as local,
            ScriptedUpstream((plain(b'{"enabled":false}'),)) as toggle,
            ScriptedUpstream((HEALTHY,)) as remote,
        ):
            rig = a_host("rig", remote.port, toggle=f"http://127.0.0.1:{toggle.port}/status")
            async with a_web(local.port, rig) as web:
                answer = await web.post("/v1/chat/completions", json=CHAT)
                assert answer.headers["x-kloros-instance"] == "small-cpu_only"
                assert remote.requests == []

    asyncio.run(within())


def test_a_host_that_comes_later_serves_while_the_instance_is_away() -> None:
    async def within() -> None:
        async with FakeLlamaServer("from here") as local, FakeLlamaServer("from there") as remote:
            rig = a_host("rig", remote.port, priority=90, kind=UpstreamKind.LLAMA_CPP)
            async with a_web(local.port, rig) as web:
                answer = await web.post("/v1/chat/completions", json=CHAT)
                assert answer.json()["choices"][0]["message"]["content"] == "from here"
                await local.stop()
                answer = await web.post("/v1/chat/completions", json=CHAT)
                assert answer.json()["choices"][0]["message"]["content"] == "from there"
                await until(lambda: len(remote.requests) == 1)

    asyncio.run(within())
