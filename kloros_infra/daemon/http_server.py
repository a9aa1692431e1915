"""Listen for HTTP on loopback, and end without cutting anybody off."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.bridge import Bridge
from kloros_infra.daemon.deadlines import DeadlineWatch
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_connection import Answers, ClientConnection, House
from kloros_infra.daemon.http_framing import HttpLimits, ResponseHeads
from kloros_infra.daemon.http_gate import Gate
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.errors import ObstacleError

BACKLOG = 1024
SWEEP_S = 0.1
LAST_WORDS_S = 0.5


class HttpServer:
    """The listening sockets and the connections that came through them."""

    def __init__(self, bridge: Answers, limits: HttpLimits) -> None:
        self.bridge = bridge
        self.limits = limits
        self.heads = ResponseHeads()
        self.watch: DeadlineWatch[ClientConnection] = DeadlineWatch(SWEEP_S)
        self.now = time.time
        self.is_draining = False
        self._listeners: list[asyncio.Server] = []
        self._connections: set[ClientConnection] = set()
        self._is_empty = asyncio.Event()

    @property
    def ports(self) -> tuple[int, ...]:
        """Name the ports that are really bound, in order."""
        return tuple(each.getsockname()[1] for listener in self._listeners for each in listener.sockets)

    async def listen(self, host: str, ports: Sequence[int]) -> None:
        """Bind every port; raise ObstacleError when one is taken or the host is not loopback."""
        if not ipaddress.ip_address(host).is_loopback:
            raise ObstacleError([http_problems.not_loopback(host)])
        loop = asyncio.get_running_loop()
        for port in ports:
            try:
                listener = await loop.create_server(lambda: ClientConnection(self), host, port, backlog=BACKLOG)
            except OSError as error:
                self.stop_listening()
                reason = os.strerror(error.errno).lower() if error.errno else str(error)
                raise ObstacleError([http_problems.cannot_listen(host, port, reason)]) from error
            self._listeners.append(listener)

    async def listen_at(self, listening: socket.socket, connect: Callable[[House], ClientConnection]) -> None:
        """Take connections from a Unix socket that is bound."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_unix_server(lambda: connect(self), sock=listening, backlog=BACKLOG)
        self._listeners.append(listener)

    def stop_listening(self) -> None:
        """Take no new connections."""
        for listener in self._listeners:
            listener.close()

    async def drain(self) -> None:
        """Finish what is being answered, for `drain_s` at most."""
        self.is_draining = True
        for connection in tuple(self._connections):
            connection.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.drain_s):
                await self._wait_until_empty()

    async def cut(self) -> None:
        """End whatever is left: clients are told, and who does not read it in time is not waited for."""
        for connection in tuple(self._connections):
            connection.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._wait_until_empty()
        for connection in tuple(self._connections):
            connection.abort()
        await self._wait_until_empty()
        self.watch.close()

    def arrived(self, connection: ClientConnection) -> None:
        """Keep a new connection."""
        self._connections.add(connection)
        self.watch.add(connection)

    def left(self, connection: ClientConnection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        self.watch.forget(connection)
        if not self._connections:
            self._is_empty.set()

    async def _wait_until_empty(self) -> None:
        while self._connections:
            self._is_empty.clear()
            await self._is_empty.wait()


@asynccontextmanager
async def serve(
    desk: Desk,
    upstreams: UpstreamPool,
    *,
    host: str,
    ports: Sequence[int],
    limits: HttpLimits | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve while the context is open; leaving it drains, and being cancelled while draining cuts."""
    bridge = Bridge(desk, upstreams)
    credential = desk.table.bridge.credential
    gate = Gate(bridge, desk, credential, upstreams.credentials) if credential is not None else None
    server = HttpServer(gate or bridge, limits or HttpLimits())
    await server.listen(host, ports)
    try:
        yield server
    finally:
        server.stop_listening()
        try:
            await server.drain()
        finally:
            await server.cut()
            await bridge.close()
