"""Upstreams that fail and clients that leave: nothing ends as if it were whole."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from kloros_infra.router.events import Polled, UnitSeen, Verdict
from tests.bridge_house import CHAT, STREAM, House, a_house, a_post, faked, scripted, send_raw, until
from tests.fakes.llama_server import DieMidStream, FakeLlamaServer, Loading
from tests.fakes.scripted_upstream import END, STREAM_HEAD, Move, Play, ScriptedUpstream, chunked, plain
from tests.free_ports import free_ports

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


def test_a_stream_without_its_last_event_is_an_error() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        data = await read_until_cut(house, "/api/chat", {"messages": CHAT["messages"]})
        assert json.loads(data.splitlines()[-1])["code"] == "KI827"
        data = await read_until_cut(house, "/v1/chat/completions", STREAM)
        assert data.startswith(FIRST + b"event: error\ndata: ")
        assert b"KI827" in data

    scripted(test, *(2 * [(STREAM_HEAD + chunked(FIRST) + END,)]))


@pytest.mark.parametrize(("end", "code"), [(Move.CLOSE, "KI823"), (END, "KI827")], ids=["cut", "without its end"])
def test_a_stream_of_an_instance_that_was_stopped_says_why(end: bytes | Move, code: str) -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        for path, body in (("/v1/chat/completions", STREAM), ("/api/chat", {"messages": CHAT["messages"]})):
            house.desk.tell(UnitSeen("small-cpu_only", is_up=True, pid=7))
            house.desk.tell(Polled("small-cpu_only", Verdict.HEALTHY))
            reading = asyncio.create_task(read_until_cut(house, path, body))
            await until(lambda: house.in_flight() == 1)
            house.desk.tell(UnitSeen("small-cpu_only", is_up=True, pid=7, is_stopping=True))
            last = (await reading).rstrip(b"\n").rpartition(b"\n")[2].decode()
            assert code in last
            assert "was stopped before its answer was complete: its unit was stopped." in last
            house.desk.tell(UnitSeen("small-cpu_only", is_up=False))

    pieces = tuple(part for _ in range(4) for part in (chunked(FIRST), 0.2))
    scripted(test, *(2 * [(STREAM_HEAD, *pieces, end)]))


def test_a_plain_answer_that_breaks_off_is_cut() -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        assert await read_until_cut(house, "/v1/chat/completions", CHAT) == b"{"
        answer = await house.web.post("/api/chat", json={"messages": CHAT["messages"], "stream": False})
        assert (answer.status_code, answer.json()["code"]) == (502, "KI823")
        assert answer.headers["x-kloros-attempts"] == "3", "nothing had reached the client"

    broken = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    scripted(test, *(4 * [(broken, Move.CLOSE)]))


@pytest.mark.parametrize(
    ("play", "status", "code"),
    [((Move.CLOSE,), 502, "KI823"), ((b"junk\r\n\r\n",), 502, "KI824"), ((Move.HANG,), 504, "KI821")],
    ids=["death", "garbage", "silence"],
)
def test_no_answer_is_a_gateway_error(play: Play, status: int, code: str) -> None:
    async def test(house: House, _: ScriptedUpstream) -> None:
        answer = await house.web.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers["x-kloros-attempts"] == "3"
        assert int(answer.headers["retry-after"]) > 0
        answer = await house.web.post("/v1/chat/completions", json=CHAT)
        assert answer.json() == {"ok": 1}
        assert answer.headers["x-kloros-attempts"] == "1"

    scripted(test, play, play, play, (plain(b'{"ok":1}'),))


@pytest.mark.parametrize(
    "play",
    [
        (Move.CLOSE,),
        (Move.RESET,),
        (b"junk\r\n\r\n",),
        (plain(b"{}", status=b"503 X"),),
        (plain(b"", status=b"502 X"),),
    ],
    ids=["death", "reset", "garbage", "unavailable", "bad gateway"],
)
def test_what_fails_before_the_first_byte_is_tried_again(play: Play) -> None:
    async def test(house: House, upstream: ScriptedUpstream) -> None:
        answer = await house.web.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json(), answer.headers["x-kloros-attempts"]) == (200, {"ok": 1}, "2")
        assert len(upstream.requests) == 2

    scripted(test, play, (plain(b'{"ok":1}'),))


def test_upstream_errors_are_passed_on_in_the_dialect() -> None:
    async def test(house: House, upstream: FakeLlamaServer) -> None:
        upstream.faults.extend([*(6 * [Loading()]), DieMidStream()])
        answer = await house.web.post("/v1/chat/completions", json=STREAM)
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "Loading model")
        assert int(answer.headers["retry-after"]) > 0
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
            house.hands.verdicts["small-cpu_only"] = Verdict.FAILING
            answer = await house.web.post("/v1/chat/completions", json={**CHAT, "model": "small"})
            assert (answer.status_code, answer.json()["error"]["code"]) in ((502, "KI820"), (503, "KI872"))

    asyncio.run(within())


def test_two_others_are_tried_and_no_more() -> None:
    async def within() -> None:
        gone, also_gone, gone_too = free_ports(3)
        async with FakeLlamaServer() as third, a_house(gone, also_gone, third.port) as house:
            answer = await house.web.post("/v1/chat/completions", json=CHAT)
            assert (answer.status_code, answer.headers["x-kloros-attempts"]) == (200, "3")
        async with a_house(gone, also_gone, gone_too) as house:
            answer = await house.web.post("/v1/chat/completions", json=CHAT)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "KI820")
            assert answer.headers["x-kloros-attempts"] == "3"
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
