"""What the router relies on in llama-server: the fake and the real one give the same shapes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.llama_server import DieBeforeAnswer, DieMidStream, FakeLlamaServer, Garbage, Loading
from tests.llama_servers import real_llama_server

HELLO = [{"role": "user", "content": "Say hello."}]
Check = Callable[[httpx.AsyncClient], Awaitable[None]]


@asynccontextmanager
async def client_of(which: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    if which == "fake":
        async with FakeLlamaServer() as fake, httpx.AsyncClient(base_url=fake.url, timeout=60) as client:
            yield client
    else:
        async with (
            real_llama_server(folder) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ):
            yield client


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real_model)])
def check(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Check], None]:
    def run(scenario: Check) -> None:
        async def main() -> None:
            async with client_of(request.param, tmp_path) as client:
                await scenario(client)

        asyncio.run(main())

    return run


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/chat/completions", json={"messages": HELLO, "temperature": 0, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def stream(client: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    """Read a stream's events; every line is `data: …` or empty, and the last event is [DONE]."""
    async with client.stream(
        "POST", "/v1/chat/completions", json={"messages": HELLO, "temperature": 0, "stream": True, **body}
    ) as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = [line async for line in response.aiter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_health_is_ok(check: Callable[[Check], None]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        response = await client.get("/health")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})

    check(scenario)


def test_a_whole_answer_has_text_usage_and_timings(check: Callable[[Check], None]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await ask(client, max_tokens=3)
        (choice,) = answer["choices"]
        assert choice["finish_reason"] == "length"
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"]
        usage, timings = answer["usage"], answer["timings"]
        assert usage["completion_tokens"] == timings["predicted_n"] == 3
        assert usage["total_tokens"] == usage["prompt_tokens"] + 3
        assert timings.keys() >= {"prompt_n", "prompt_ms", "predicted_ms", "predicted_per_second", "cache_n"}
        assert answer["object"] == "chat.completion"
        assert answer["id"].startswith("chatcmpl-")

    check(scenario)


def test_a_stream_ends_with_a_finish_reason_usage_timings_and_done(check: Callable[[Check], None]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        *chunks, last, figures = await stream(client, max_tokens=3, stream_options={"include_usage": True})
        assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
        assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
        assert last["choices"] == [{"finish_reason": "length", "index": 0, "delta": {}}]
        assert figures["choices"] == []
        assert figures["usage"]["completion_tokens"] == figures["timings"]["predicted_n"] == 3

    check(scenario)


def test_without_usage_the_timings_come_with_the_last_chunk(check: Callable[[Check], None]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        *_, last = await stream(client, max_tokens=2)
        assert last["choices"][0]["finish_reason"] == "length"
        assert last["timings"]["predicted_n"] == 2
        assert "usage" not in last

    check(scenario)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 500, "server_error"),
        (b"{}", 400, "invalid_request_error"),
        (json.dumps({"messages": [{"role": "user", "content": "word " * 4000}]}), 400, "exceed_context_size_error"),
    ],
    ids=["not json", "no messages", "too long"],
)
def test_bad_requests_have_an_error_object(check: Callable[[Check], None], body: bytes, status: int, kind: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/chat/completions", content=body)
        assert response.status_code == status
        error = response.json()["error"]
        assert (error["code"], error["type"]) == (status, kind)
        assert error["message"]

    check(scenario)


def test_an_unknown_path_is_404(check: Callable[[Check], None]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        response = await client.get("/nothing")
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "not_found_error"

    check(scenario)


def test_one_connection_serves_many_requests(check: Callable[[Check], None]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for _ in range(3):
            assert (await client.get("/health")).headers["keep-alive"] == "timeout=5, max=100"

    check(scenario)


def test_the_fakes_faults_are_faults() -> None:
    async def main() -> None:
        async with FakeLlamaServer() as fake, httpx.AsyncClient(base_url=fake.url) as client:
            fake.is_loading = True
            assert (await client.get("/health")).status_code == 503
            fake.faults.extend([Loading(), DieBeforeAnswer(), Garbage(), DieMidStream()])
            response = await client.post("/v1/chat/completions", json={"messages": HELLO})
            assert (response.status_code, response.json()["error"]["type"]) == (503, "unavailable_error")
            for _ in range(3):
                with pytest.raises(httpx.RemoteProtocolError):
                    await stream(client)
            assert len(await stream(client)) > 3

    asyncio.run(main())
