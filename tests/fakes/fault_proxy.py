"""A TCP proxy that does to a connection what bad networks and broken servers do.

Health checks pass unharmed unless the fault is one of the whole link: a link that is broken altogether is taken out by
them, and what is to be seen here is what requests meet before that.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum

LIMIT = 64 * 1024


class Toxic(Enum):
    """What is done to an answer, or to the link."""

    NONE = "passes all"
    LATENCY = "each piece comes late"
    SLICED = "one byte at a time"
    SLOW_CLOSE = "the end of the connection comes late"
    RESET = "reset after so many bytes of the answer"
    CLOSED = "closed after so many bytes of the answer"
    GARBAGE = "bytes that are no HTTP"
    BAD_CHUNK = "a chunk whose length is none, after so many bytes of the answer"
    TWICE = "each answer comes twice"
    CANNED = "another answer, word for word"
    DOWN = "connections are refused"
    VANISHED = "nothing comes, nothing goes, and nobody says so"

    @property
    def is_of_link(self) -> bool:
        """Whether health checks suffer as well."""
        return self in (Toxic.DOWN, Toxic.VANISHED)


class FaultProxy:
    """Listens on a port and passes on to another; `set` changes what it does from now on, on open connections too."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self._target_port = target_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._full: list[socket.socket] = []
        self.toxic = Toxic.NONE
        self.at_byte = 0
        self.delay_s = 0.0
        self.canned = b""
        self.posts = 0
        """Requests that were harmed, or could have been."""
        self.answers: list[bytearray] = []
        """What the server said to each of them."""

    async def set(self, toxic: Toxic, *, at_byte: int = 0, delay_s: float = 0.0, canned: bytes = b"") -> None:
        """Do something else from now on."""
        self.at_byte, self.delay_s, self.canned = at_byte, delay_s, canned
        before, self.toxic = self.toxic, toxic
        if toxic.is_of_link != before.is_of_link or toxic.is_of_link:
            await self._close_door()
            if toxic is Toxic.VANISHED:
                self._fill_up()
            elif not toxic.is_of_link:
                await self._open_door()
        if before is Toxic.VANISHED or toxic is Toxic.DOWN:
            self._cut_all()

    async def open(self) -> None:
        """Listen."""
        await self._open_door()

    async def close(self) -> None:
        """End it all."""
        await self._close_door()
        self._cut_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _open_door(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LIMIT)

    async def _close_door(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for one in self._full:
            one.close()
        self._full.clear()

    def _fill_up(self) -> None:
        """Listen, but have no room for connections: SYNs are dropped, as by a host that is gone (listen(2))."""
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", self.port))
        door.listen(0)
        self._full.append(door)
        for _ in range(3):
            knocking = socket.socket()
            knocking.setblocking(False)
            with suppress(BlockingIOError):
                knocking.connect(("127.0.0.1", self.port))
            self._full.append(knocking)

    def _cut_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._carry(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port, limit=LIMIT)
        link = _Link(self, writer)
        both = (asyncio.ensure_future(link.there(reader, far_writer)), asyncio.ensure_future(link.back(far_reader)))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            far_writer.transport.abort()


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._answer = bytearray()
        self._writer = writer
        self._is_harmed = False
        self._passed = 0

    async def there(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        """Pass requests on; a new one is harmed if it is one that is to be."""
        proxy = self._proxy
        while data := await reader.read(LIMIT):
            await self._still()
            if data.startswith((b"POST", b"GET")):
                self._is_harmed = data.startswith(b"POST")
                self._passed = 0
                if self._is_harmed:
                    proxy.posts += 1
                    self._answer = bytearray()
                    proxy.answers.append(self._answer)
            if self._is_harmed and proxy.toxic in (Toxic.GARBAGE, Toxic.CANNED):
                self._writer.write(b"\x00\xffjunk\r\n\r\n" if proxy.toxic is Toxic.GARBAGE else proxy.canned)
                await self._writer.drain()
                continue
            far.write(data)
            await far.drain()

    async def back(self, far: asyncio.StreamReader) -> None:
        """Pass answers on, harmed or not."""
        while data := await far.read(LIMIT):
            await self._still()
            self._answer += data
            if not await self._pass(data):
                return
        if self._proxy.toxic is Toxic.SLOW_CLOSE:
            await asyncio.sleep(self._proxy.delay_s)

    async def _still(self) -> None:
        """Let nothing through while the link is gone."""
        if self._proxy.toxic is Toxic.VANISHED:
            await asyncio.Event().wait()

    async def _pass(self, data: bytes) -> bool:
        """Pass a piece of an answer on; say whether the connection goes on."""
        proxy, toxic, writer = self._proxy, self._proxy.toxic, self._writer
        if not self._is_harmed:
            toxic = Toxic.NONE
        before, self._passed = self._passed, self._passed + len(data)
        match toxic:
            case Toxic.LATENCY:
                await asyncio.sleep(proxy.delay_s)
            case Toxic.SLICED:
                for index in range(len(data)):
                    writer.write(data[index : index + 1])
                    await writer.drain()
                return True
            case Toxic.TWICE:
                data += data
            case Toxic.RESET | Toxic.CLOSED | Toxic.BAD_CHUNK if self._passed > proxy.at_byte:
                writer.write(data[: max(0, proxy.at_byte - before)])
                if toxic is Toxic.BAD_CHUNK:
                    writer.write(b"\r\nzz\r\n")
                    await writer.drain()
                    await asyncio.Event().wait()
                await writer.drain()
                self._end(is_reset=toxic is Toxic.RESET)
                return False
        writer.write(data)
        await writer.drain()
        return True

    def _end(self, *, is_reset: bool) -> None:
        if is_reset:
            sock = self._writer.get_extra_info("socket")
            # With no time to linger, closing sends RST (socket(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            self._writer.transport.abort()
        else:
            self._writer.close()


@asynccontextmanager
async def a_fault_proxy(port: int, target_port: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy while the context is open."""
    proxy = FaultProxy(port, target_port)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
