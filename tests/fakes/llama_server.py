"""A small real HTTP server that answers in llama.cpp's shapes, and misbehaves when told to.

Held to `tests/contract/test_llama_server.py` together with the real llama-server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before answering."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Loading:
    """Answer 503 as while the model loads."""


@dataclass(frozen=True, slots=True)
class DieBeforeAnswer:
    """Close the connection without a byte."""


@dataclass(frozen=True, slots=True)
class DieMidStream:
    """Close the connection after some chunks, without the last one."""

    after_chunks: int = 1


@dataclass(frozen=True, slots=True)
class Garbage:
    """Send bytes that are not HTTP."""

    text: bytes = b"\x00\x01 this is not HTTP\r\n\r\n"


Fault = Delay | Loading | DieBeforeAnswer | DieMidStream | Garbage


class FakeLlamaServer:
    """Answers every chat with the same words; each chat takes the next scripted fault, if there is one."""

    def __init__(
        self, answer: str = "Hello there, my friend.", *, reasoning: str = "", context_tokens: int = 2048
    ) -> None:
        self.answer = answer
        self.reasoning = reasoning
        self.context_tokens = context_tokens
        self.is_loading = False
        self.requests: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self.gate = asyncio.Event()
        self.gate.set()
        """Cleared by a test, it holds every answer back."""
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen, on a free port unless one is given."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection, as a killed process would."""
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        target, *headers = head.split("\r\n")
        lengths = (line.partition(":")[2] for line in headers if line.lower().startswith("content-length:"))
        body = await reader.readexactly(int(next(lengths, "0")))
        method, path, _ = target.split(" ")
        if path == "/health":
            return await self._send(writer, *((503, LOADING) if self.is_loading else (200, {"status": "ok"})))
        if path == "/v1/models":
            return await self._send(writer, 200, {"object": "list", "data": [{"id": "fake.gguf", "object": "model"}]})
        if (method, path) == ("POST", "/v1/chat/completions"):
            return await self._chat(writer, body)
        return await self._refuse(writer, 404, "not_found_error", "File Not Found")

    async def _chat(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        asked = self._read(body)
        if isinstance(asked, _Refusal):
            return await self._refuse(writer, asked.status, asked.kind, asked.message)
        self.requests.append(asked)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Delay):
            await asyncio.sleep(fault.seconds)
        await self.gate.wait()
        match fault:
            case Loading():
                return await self._send(writer, 503, LOADING)
            case DieBeforeAnswer():
                return False
            case Garbage(noise):
                writer.write(noise)
                await writer.drain()
                return False
        answer = _Answer(asked, self.answer, self.reasoning, _count_tokens(asked))
        if asked.get("stream"):
            return await self._stream(writer, answer, fault)
        return not isinstance(fault, DieMidStream) and await self._send(writer, 200, answer.whole())

    def _read(self, body: bytes) -> dict[str, Any] | _Refusal:
        try:
            asked: dict[str, Any] = json.loads(body)
        except ValueError as error:
            # llama-server answers 500 for the client's fault.
            return _Refusal(500, "server_error", str(error))
        if "messages" not in asked:
            return _Refusal(400, "invalid_request_error", "'messages' is required")
        wanted, given = _count_tokens(asked), self.context_tokens
        if wanted > given:
            text = f"request ({wanted} tokens) exceeds the available context size ({given} tokens), try increasing it"
            return _Refusal(400, "exceed_context_size_error", text)
        return asked

    async def _stream(self, writer: asyncio.StreamWriter, answer: _Answer, fault: Fault | None) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
        )
        for index, event in enumerate(answer.events()):
            if isinstance(fault, DieMidStream) and index > fault.after_chunks:
                return False
            data = f"data: {event}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _refuse(self, writer: asyncio.StreamWriter, status: int, kind: str, message: str) -> bool:
        return await self._send(writer, status, {"error": {"code": status, "message": message, "type": kind}})

    async def _send(self, writer: asyncio.StreamWriter, status: int, value: dict[str, Any]) -> bool:
        """Send JSON; like llama-server, keep the connection after 200 only."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        keep = "Keep-Alive: timeout=5, max=100" if status == 200 else "Connection: close"
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nServer: llama.cpp\r\n"
            f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n{keep}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        return status == 200


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    kind: str
    message: str


def _count_tokens(asked: dict[str, Any]) -> int:
    """Count words as tokens: near enough for a fake."""
    return sum(len(str(message.get("content")).split()) for message in asked["messages"])


class _Answer:
    """One chat completion in llama.cpp's words (tools/server/server-task.cpp)."""

    def __init__(self, asked: dict[str, Any], text: str, reasoning: str, prompt_tokens: int) -> None:
        words = [word + " " for word in text.split(" ")]
        limit = asked.get("max_tokens") or len(words)
        self.words = [*words[:limit]]
        if self.words:
            self.words[-1] = self.words[-1].rstrip(" ")
        self.reasoning = reasoning
        self.finish_reason = "stop" if limit >= len(words) else "length"
        self.prompt_tokens = prompt_tokens
        self.has_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        self.common = {
            "created": int(time.time()),
            "id": "chatcmpl-0123456789abcdefghijklmnopqrstuv",
            "model": "fake.gguf",
            "system_fingerprint": "b1-fake",
        }

    @property
    def usage(self) -> dict[str, Any]:
        made, read = len(self.words), self.prompt_tokens
        cached = {"cached_tokens": 0}
        return {
            "completion_tokens": made,
            "prompt_tokens": read,
            "total_tokens": made + read,
            "prompt_tokens_details": cached,
        }

    @property
    def timings(self) -> dict[str, float]:
        made, read = len(self.words), self.prompt_tokens
        return {
            "cache_n": 0,
            "prompt_n": read,
            "prompt_ms": read * 1.0,
            "prompt_per_token_ms": 1.0,
            "prompt_per_second": 1000.0,
            "predicted_n": made,
            "predicted_ms": made * 10.0,
            "predicted_per_token_ms": 10.0,
            "predicted_per_second": 100.0,
        }

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self.words)}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        choice = {"finish_reason": self.finish_reason, "index": 0, "message": message}
        return {
            "choices": [choice],
            "object": "chat.completion",
            **self.common,
            "usage": self.usage,
            "timings": self.timings,
        }

    def events(self) -> list[str]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
        deltas += [{"reasoning_content": self.reasoning}] if self.reasoning else []
        deltas += [{"content": word} for word in self.words]
        chunks = [self._chunk({"finish_reason": None, "index": 0, "delta": delta}) for delta in deltas]
        last = self._chunk({"finish_reason": self.finish_reason, "index": 0, "delta": {}})
        if self.has_usage:
            figures = {**self._chunk(), "usage": self.usage, "timings": self.timings}
            chunks += [last, figures]
        else:
            chunks.append({**last, "timings": self.timings})
        return [*(json.dumps(chunk, ensure_ascii=False, separators=(",", ":")) for chunk in chunks), "[DONE]"]

    def _chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        return {"choices": list(choices), "object": "chat.completion.chunk", **self.common}
