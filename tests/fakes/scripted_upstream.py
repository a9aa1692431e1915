"""An upstream that does to each request exactly what the test says, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import Self


class Move(Enum):
    """What may come between bytes."""

    CLOSE = "close the connection"
    RESET = "reset the connection"
    HANG = "say nothing until the other side leaves"


Play = Sequence[bytes | float | Move]
"""Bytes are sent, numbers are waited for in seconds; a connection without a play left hangs."""


def plain(body: bytes, *, status: bytes = b"200 OK", head: bytes = b"") -> bytes:
    """Write a response of JSON as llama-server would."""
    fields = b"Server: llama.cpp\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 %b\r\n%b%b\r\n%b" % (status, fields, head, body)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """Frame one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ScriptedUpstream:
    """Plays one play per request, in order, over all connections."""

    def __init__(self, *plays: Play) -> None:
        self.plays = list(plays)
        self.requests: list[bytes] = []
        self.connections = 0
        self.departures = 0
        self.departed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            self.departures += 1
            self.departed.set()
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        ]
        self.requests.append(head + await reader.readexactly(int(lengths[0]) if lengths else 0))
        for step in self.plays.pop(0) if self.plays else (Move.HANG,):
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case float() | int():
                    await asyncio.sleep(step)
                case Move.HANG:
                    await reader.read()
                    return False
                case Move.CLOSE:
                    writer.close()
                    return False
                case Move.RESET:
                    writer.transport.abort()
                    return False
        return True
