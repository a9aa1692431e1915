"""A new routing table while streams run: what it does not concern notices nothing, what it takes away finishes."""

from __future__ import annotations

import asyncio

from kloros_infra.daemon.request_problems import table_unreadable
from tests.bridge_house import CHAT, STREAM, House, a_house, until
from tests.factories import a_routed_model, an_upstream
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.scripted_upstream import END, STREAM_HEAD, Play, ScriptedUpstream, chunked

STREAMS = 16
FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
LAST = b"data: [DONE]\n\n"


def a_slow_stream() -> Play:
    return (STREAM_HEAD + chunked(FIRST), 0.25, chunked(FIRST), 0.25, chunked(LAST) + END)


async def all_streams(house: House, count: int, model: str) -> list[bytes]:
    answers = (house.web.post("/v1/chat/completions", json={**STREAM, "model": model}) for _ in range(count))
    return [answer.content for answer in await asyncio.gather(*answers)]


def test_sixteen_streams_outlive_a_table_that_changes_another_model() -> None:
    async def within() -> None:
        plays = [a_slow_stream() for _ in range(STREAMS)]
        async with ScriptedUpstream(*plays) as upstream, a_house(upstream.port, upstream.port) as house:
            asked = asyncio.create_task(all_streams(house, STREAMS, "small"))
            await until(lambda: house.in_flight() == STREAMS)
            table = house.desk.table
            small, spare, *others = table.models
            moved = a_routed_model("spare", an_upstream("spare-cpu_only", port=9, parallel=3))
            house.desk.replace_table(table.model_copy(update={"models": (small, moved, *others)}))
            assert house.in_flight() == STREAMS
            assert await asked == [FIRST + FIRST + LAST] * STREAMS
            assert upstream.connections <= STREAMS
            assert spare not in house.desk.table.models

    asyncio.run(within())


def test_streams_of_a_model_that_leaves_the_table_finish_and_new_requests_for_it_are_refused() -> None:
    async def within() -> None:
        plays = [a_slow_stream() for _ in range(STREAMS)]
        async with ScriptedUpstream(*plays) as upstream, a_house(upstream.port, upstream.port) as house:
            asked = asyncio.create_task(all_streams(house, STREAMS, "spare"))
            await until(lambda: house.in_flight() == STREAMS)
            table = house.desk.table
            left = tuple(model for model in table.models if model.id != "spare")
            house.desk.replace_table(table.model_copy(update={"models": left}))
            answer = await house.web.post("/v1/chat/completions", json={**CHAT, "model": "spare"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "KI801")
            assert house.hands.orders == [], "it drains before it is stopped"
            assert await asked == [FIRST + FIRST + LAST] * STREAMS
            await until(lambda: house.hands.orders == [("stop", "spare-cpu_only")])

    asyncio.run(within())


def test_a_table_that_was_refused_is_said_in_health() -> None:
    async def within() -> None:
        async with FakeLlamaServer() as upstream, a_house(upstream.port) as house:
            house.desk.note_problem(table_unreadable("routing.json", "it is torn"))
            health = (await house.web.get("/health")).json()
            assert health["problem"]["code"] == "KI813"
            assert (await house.web.post("/v1/chat/completions", json=CHAT)).status_code == 200

    asyncio.run(within())
