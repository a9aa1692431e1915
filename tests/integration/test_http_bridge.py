"""Both dialects of the bridge over real sockets, against upstreams of the test's own."""

from __future__ import annotations

import asyncio
import hashlib
import json

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.router.events import Doubted, Verdict
from tests.bad_requests import GOOD_BODY
from tests.bridge_house import CHAT, QUICK_CLIENTS, STREAM, House, a_post, faked, scripted, send_raw, until
from tests.fakes.llama_server import FakeLlamaServer
from tests.fakes.scripted_upstream import END, STREAM_HEAD, Move, ScriptedUpstream, chunked, plain

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


def test_reranking_goes_to_a_reranking_model() -> None:
    body = {"query": "What is a panda?", "documents": ["A bear.", "A plane."]}

    async def test(house: House, upstream: ScriptedUpstream) -> None:
        for path in ("/v1/rerank", "/rerank"):
            answer = await house.web.post(path, json={**body, "model": "ranks"})
            assert answer.headers["x-kloros-instance"] == "ranks-cpu_only"
            assert upstream.requests[-1].startswith(f"POST {path} ".encode())
        answer = await house.web.post("/v1/rerank", json={**body, "model": "small"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "KI805")
        answer = await house.web.post("/v1/chat/completions", json={**CHAT, "model": "ranks"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "KI805")

    scripted(test, (plain(b'{"results":[]}'),), (plain(b'{"results":[]}'),), more={"ranks": ModelKind.RERANK})


def test_pictures_go_to_a_model_that_sees() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    turns = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]
    ollama = [{"role": "user", "content": "What is it?", "images": ["aGk="]}]

    async def test(house: House, upstream: ScriptedUpstream) -> None:
        answer = await house.web.post("/v1/chat/completions", json={"messages": turns, "model": "sees"})
        assert answer.headers["x-kloros-instance"] == "sees-cpu_only"
        assert picture in json.loads(upstream.requests[-1].partition(b"\r\n\r\n")[2])["messages"][0]["content"]
        answer = await house.web.post("/v1/chat/completions", json={"messages": turns, "model": "small"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "KI805")
        for path, body in (("chat", {"messages": ollama}), ("generate", {"prompt": "?", "images": ["aGk="]})):
            answer = await house.web.post(f"/api/{path}", json={**body, "model": "small"})
            assert (answer.status_code, answer.json()["code"]) == (400, "KI805")
        assert len(upstream.requests) == 1

    scripted(test, (plain(b'{"choices":[]}'),), more={"sees": ModelKind.VISION})


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
        house.hands.verdicts["small-cpu_only"] = Verdict.FAILING
        house.desk.tell(Doubted("small-cpu_only"))
        await until(lambda: ("restart", "small-cpu_only") in house.hands.orders)
        await asyncio.sleep(0)  # nobody starts it here, and that is told in the loop's next round
        health = (await house.web.get("/health")).json()
        assert health["status"] == "degraded"
        assert [runtime["status"] for runtime in health["runtimes"]] == ["failed", "healthy"]
        answer = await house.web.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "KI872")

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
        assert (await house.web.post("/api/show", json={"model": "vectors"})).json()["capabilities"] == ["embedding"]
        assert "version" in (await house.web.get("/api/version")).json()
        assert (await house.web.get("/")).text == "Ollama is running"

    scripted(test, (plain(b'{"chat_template":"x","chat_template_caps":{"supports_tools":true}}'),), (plain(b"{}"),))
