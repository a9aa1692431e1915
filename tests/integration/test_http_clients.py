"""Bad, slow and unusual clients of the bridge, and how it ends."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import httpx
import pytest

from kloros_infra.daemon.http_framing import HttpLimits
from kloros_infra.daemon.http_server import serve
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.errors import ObstacleError
from tests.bad_requests import BODIES, FRAMING, GOOD_BODY
from tests.bridge_house import (
    CHAT,
    PATIENT,
    QUICK_CLIENTS,
    STREAM,
    House,
    a_house,
    a_post,
    answer_to,
    faked,
    scripted,
    send_raw,
    until,
)
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.scripted_upstream import STREAM_HEAD, Move, ScriptedUpstream, chunked, plain

FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'

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
                async with serve(house.desk, UpstreamPool(), host=host, ports=(0, port)):
                    pass
            assert caught.value.problems[0].code == code

    scripted(test)


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
            answer = await asked
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "KI812")
            assert int(answer.headers["retry-after"]) > 0

    asyncio.run(test())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_what_draining_does_not_finish_is_told_so(path: str) -> None:
    async def test() -> None:
        limits, play = HttpLimits(drain_s=0.2), (STREAM_HEAD + chunked(FIRST), Move.HANG)
        async with ScriptedUpstream(play) as upstream, httpx.AsyncClient(timeout=5) as web:
            async with a_house(upstream.port, limits=limits, patience=PATIENT) as house:
                url = f"http://127.0.0.1:{house.port}{path}"
                asked = asyncio.create_task(read_to_its_end(web, url))
                await until(lambda: house.in_flight() == 1)
            data = await asked
        assert b"KI812" in data.rstrip().splitlines()[-1]

    asyncio.run(test())


def test_a_look_at_a_model_is_not_waited_for() -> None:
    async def test() -> None:
        limits = HttpLimits(drain_s=0.2)
        async with ScriptedUpstream((Move.HANG,)) as upstream, httpx.AsyncClient(timeout=5) as web:
            async with a_house(upstream.port, limits=limits, patience=PATIENT) as house:
                asked = asyncio.create_task(
                    web.post(f"http://127.0.0.1:{house.port}/api/show", json={"model": "small"})
                )
                await until(lambda: bool(upstream.requests))
                begun = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - begun < 2
            with pytest.raises(httpx.HTTPError):
                await asked

    asyncio.run(test())


async def read_to_its_end(web: httpx.AsyncClient, url: str) -> bytes:
    data = b""
    with suppress(httpx.RemoteProtocolError):
        async with web.stream("POST", url, json=STREAM) as answer:
            async for part in answer.aiter_raw():
                data += part
    return data
