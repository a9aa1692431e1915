"""The smallest request to a llama-server: the real one answers it, and whatever else answers is seen through."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from kloros_infra.adapters.llama_server import MAX_ANSWER_BYTES, HttpLlamaServers
from kloros_infra.executor.gate_ports import LlamaServers
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gate import TokenAnswer
from tests.fakes.gate import FakeLlamaServers
from tests.fakes.llama_server import DieBeforeAnswer, FakeLlamaServer, Garbage, Loading
from tests.fakes.scripted_upstream import Move, Play, ScriptedUpstream, plain
from tests.llama_servers import real_llama_server

QUICK_S = 0.3
GOOD = TokenAnswer(is_good=True)


def asked(port: int, kind: ModelKind = ModelKind.CHAT, timeout_s: float = 60) -> TokenAnswer:
    servers: LlamaServers = HttpLlamaServers()
    return servers.ask_token(f"http://127.0.0.1:{port}", kind, timeout_s)


def scripted(*play: bytes | float | Move, kind: ModelKind = ModelKind.CHAT) -> tuple[TokenAnswer, bytes, float]:
    """Ask a server that does just this; give its answer, the request, and how long that took."""

    async def main(script: Play) -> tuple[TokenAnswer, bytes, float]:
        async with ScriptedUpstream(script) as server:
            began = time.monotonic()
            answer = await asyncio.to_thread(asked, server.port, kind, QUICK_S)
            return answer, server.requests[0], time.monotonic() - began

    return asyncio.run(main(play))


def answering(value: Any, kind: ModelKind = ModelKind.CHAT) -> TokenAnswer:
    return scripted(plain(json.dumps(value).encode()), kind=kind)[0]


@pytest.mark.parametrize("kind", [ModelKind.CHAT, ModelKind.VISION])
def test_the_fake_server_answers_with_one_token(kind: ModelKind) -> None:
    async def main() -> None:
        async with FakeLlamaServer() as server:
            assert await asyncio.to_thread(asked, server.port, kind) == GOOD
            (request,) = server.requests
            assert request["max_tokens"] == 1

    asyncio.run(main())


@pytest.mark.real_model
def test_the_real_server_answers_with_one_token_and_refuses_what_it_is_not_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with real_llama_server(tmp_path) as port:
            assert await asyncio.to_thread(asked, port) == GOOD
            refused = await asyncio.to_thread(asked, port, ModelKind.EMBEDDING)
            assert not refused.is_good
            assert refused.detail.startswith("it answered 501, ")
            assert "does not support embeddings" in refused.detail

    asyncio.run(main())


def test_the_faults_of_a_server_are_no_answers() -> None:
    async def main() -> None:
        async with FakeLlamaServer() as server:
            server.faults.extend([Loading(), DieBeforeAnswer(), Garbage()])
            details = [(await asyncio.to_thread(asked, server.port)).detail for _ in range(3)]
            assert details[0].startswith("it answered 503, ")
            assert all(detail.startswith("the connection was lost (") for detail in details[1:])

    asyncio.run(main())


def test_a_server_that_is_not_there_is_no_answer() -> None:
    async def main() -> int:
        async with FakeLlamaServer() as server:
            return server.port

    answer = asked(asyncio.run(main()))
    assert not answer.is_good
    assert "refused" in answer.detail


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    "play",
    [
        (Move.HANG,),
        (HEAD, Move.HANG),
        # A byte now and then keeps each read alive, and not the whole.
        (HEAD, *[b" ", 0.05] * 200, Move.HANG),
    ],
    ids=["nothing", "a head", "drops"],
)
def test_a_server_that_never_comes_to_an_end_is_left_in_time(play: Play) -> None:
    answer, _, took_s = scripted(*play)
    assert (answer.is_good, answer.detail) == (False, "it did not answer within 0.3 s")
    assert QUICK_S <= took_s < QUICK_S + 5


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    answer, _, _ = scripted(plain(b"[" * (MAX_ANSWER_BYTES + 2**17)))
    assert answer.detail.startswith("its answer is not one: ")


CHAT = {"choices": [{"message": {"content": ""}}], "usage": {"completion_tokens": 1}}


@pytest.mark.parametrize(
    ("kind", "answer", "path"),
    [
        (ModelKind.CHAT, CHAT, b"POST /v1/chat/completions "),
        (ModelKind.VISION, CHAT, b"POST /v1/chat/completions "),
        (ModelKind.EMBEDDING, {"data": [{"embedding": [0.5, -1.0]}]}, b"POST /v1/embeddings "),
        (ModelKind.RERANK, {"results": [{"index": 0, "relevance_score": -0.4}]}, b"POST /v1/rerank "),
    ],
)
def test_each_kind_is_asked_what_it_is_for(kind: ModelKind, answer: object, path: bytes) -> None:
    found, request, _ = scripted(plain(json.dumps(answer).encode()), kind=kind)
    assert found == GOOD
    assert request.startswith(path)
    assert b"Hello" in request


def test_a_token_that_its_server_cannot_make_sense_of_is_one() -> None:
    error = {"code": 500, "message": "The model produced output that does not match the expected peg-native format"}
    said = plain(json.dumps({"error": error}).encode(), status=b"500 Internal Server Error")
    assert scripted(said)[0] == GOOD
    refused = scripted(said, kind=ModelKind.EMBEDDING)[0]
    assert refused.detail.startswith("it answered 500, ")


@pytest.mark.parametrize(
    ("kind", "answer", "place"),
    [
        (ModelKind.CHAT, {**CHAT, "choices": []}, "choices"),
        (ModelKind.CHAT, {**CHAT, "usage": {"completion_tokens": 0}}, "usage.completion_tokens"),
        (ModelKind.CHAT, "hello", "the answer"),
        (ModelKind.EMBEDDING, {"data": [{"embedding": [0.5, None]}]}, "data.0.embedding.1"),
        (ModelKind.EMBEDDING, {"data": [{"embedding": []}]}, "data.0.embedding"),
        (ModelKind.RERANK, {"results": [{"index": 0, "relevance_score": None}]}, "results.0.relevance_score"),
        (ModelKind.RERANK, {"results": []}, "results"),
    ],
)
def test_an_answer_that_is_none_is_seen_through(kind: ModelKind, answer: object, place: str) -> None:
    found = answering(answer, kind)
    assert not found.is_good
    assert found.detail.startswith(f"its answer is not one: {place}: ")


def test_a_long_refusal_is_cut_and_an_empty_one_is_said_to_be_empty() -> None:
    long, _, _ = scripted(plain(b"x" * 1000, status=b"500 Internal Server Error"))
    assert long.detail == f"it answered 500, {'x' * 200}…"
    empty, _, _ = scripted(plain(b"", status=b"500 Internal Server Error"))
    assert empty.detail == "it answered 500, without a word"


def test_the_fake_is_held_to_the_same() -> None:
    servers: LlamaServers = FakeLlamaServers()
    assert servers.ask_token("http://127.0.0.1:1", ModelKind.CHAT, 1) == GOOD
