"""Call llama-servers: keep-alive connections, deadlines, whole chat answers for the bus."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.collected import CompletionSink, WholeSink
from kloros_infra.daemon.deadlines import DeadlineWatch
from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.daemon.ports import Completion, UpstreamError
from kloros_infra.daemon.upstream_connection import Exchange, Patience, ResponseSink, UpstreamConnection
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.routing import Upstream


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """How patient we are with a llama-server.

    `idle_s` is between two bytes of an answer. The first byte of a stream comes after the prompt is
    read, that of a plain answer after all is generated: both take minutes on a CPU.
    """

    connect_s: float = 1.0
    stream_first_byte_s: float = 300.0
    answer_first_byte_s: float = 900.0
    idle_s: float = 30.0
    # cpp-httplib, llama-server's HTTP library, closes a connection that was idle for 5 s.
    keep_s: float = 4.0
    sweep_s: float = 0.05


class UpstreamPool:
    """Implements `daemon.ports.Upstreams`, and `exchange`, which the HTTP bridge lives on."""

    def __init__(self, limits: UpstreamLimits | None = None) -> None:
        self.limits = limits or UpstreamLimits()
        self._free: defaultdict[tuple[str, int], list[UpstreamConnection]] = defaultdict(list)
        self._connecting: set[asyncio.Task[None]] = set()
        self._watch = DeadlineWatch(self.limits.sweep_s)
        self._plain = Patience(self.limits.answer_first_byte_s, self.limits.idle_s)
        self._streamed = Patience(self.limits.stream_first_byte_s, self.limits.idle_s)

    def exchange(self, upstream: Upstream, request: bytes, sink: ResponseSink, *, is_stream: bool) -> Exchange:
        """Send a whole HTTP request; the answer goes to the sink, as it comes."""
        return self._begin(upstream, request, sink, self._streamed if is_stream else self._plain)

    async def complete(self, upstream: Upstream, body: Mapping[str, Any], *, deadline_s: float) -> Completion:
        """Ask for a chat completion; raise UpstreamError with a KI8xx diagnostic.

        It is streamed from the upstream whatever the body says: that is how the time to the first
        token is known, and how an upstream that hangs is told from one that is slow.
        """
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        request = post_request(upstream, b"/v1/chat/completions", dump(asked))
        loop = asyncio.get_running_loop()
        sink = CompletionSink(upstream, loop)
        patience = Patience(min(deadline_s, self.limits.stream_first_byte_s), self.limits.idle_s)
        exchange = self._begin(upstream, request, sink, patience)
        try:
            async with asyncio.timeout(deadline_s):
                return await sink.outcome
        except TimeoutError:
            problem = http_problems.deadline_passed(upstream, deadline_s)
            raise UpstreamError(problem, reached=True, started=exchange.has_started) from None
        finally:
            exchange.cancel()

    async def is_ready(self, upstream: Upstream, *, timeout_s: float) -> bool:
        """Ask `GET /health`; False on anything but 200."""
        try:
            status, _ = await self._get(upstream, b"/health", timeout_s)
        except (UpstreamError, TimeoutError):
            return False
        return status == 200

    async def properties(self, upstream: Upstream, *, timeout_s: float) -> Mapping[str, Any]:
        """Ask `GET /props`: chat template and what it can do; empty when there is no answer."""
        try:
            status, body = await self._get(upstream, b"/props", timeout_s)
        except (UpstreamError, TimeoutError):
            return {}
        found = parse_object(body)
        return {} if status != 200 or isinstance(found, Diagnostic) else found

    async def close(self) -> None:
        """Close every connection that is free, and stop connecting."""
        for task in tuple(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connections in self._free.values():
            for connection in connections:
                connection.abort()
        self._free.clear()
        self._watch.close()

    async def _get(self, upstream: Upstream, path: bytes, timeout_s: float) -> tuple[int, bytes]:
        sink = WholeSink(asyncio.get_running_loop())
        exchange = self._begin(upstream, get_request(upstream, path), sink, Patience(timeout_s, timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                return await sink.outcome
        finally:
            exchange.cancel()

    def _begin(self, upstream: Upstream, request: bytes, sink: ResponseSink, patience: Patience) -> Exchange:
        exchange = Exchange(upstream, request, sink, patience, self._watch.forget)
        self._watch.add(exchange)
        connection = self._take_free((upstream.host, upstream.port))
        if connection is None:
            self._connect_for(exchange)
        else:
            exchange.send_on(connection)
        return exchange

    def _take_free(self, endpoint: tuple[str, int]) -> UpstreamConnection | None:
        """Take the connection used last, and drop those that the upstream is about to close."""
        connections = self._free[endpoint]
        while connections:
            connection = connections.pop()
            if connection.is_usable and connection.loop.time() - connection.free_since < self.limits.keep_s:
                return connection
            connection.abort()
        return None

    def _give_back(self, connection: UpstreamConnection) -> None:
        connection.free_since = connection.loop.time()
        self._free[connection.endpoint].append(connection)

    def _connect_for(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, exchange: Exchange) -> None:
        upstream, loop = exchange.upstream, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.connect_s):
                _, connection = await loop.create_connection(self._new_connection, upstream.host, upstream.port)
        except TimeoutError:
            exchange.fail(
                http_problems.cannot_connect(upstream, f"no reply in {self.limits.connect_s:g} s"), reached=False
            )
        except OSError as error:
            # asyncio's own text names the address once more instead of the reason.
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            exchange.fail(http_problems.cannot_connect(upstream, reason), reached=False)
        else:
            connection.endpoint = (upstream.host, upstream.port)
            if exchange.is_over:
                self._give_back(connection)
            else:
                exchange.send_on(connection)

    def _new_connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._give_back, self._connect_for)


def post_request(upstream: Upstream, path: bytes, body: bytes) -> bytes:
    """Write a POST of JSON."""
    return b"POST %b HTTP/1.1\r\nHost: %b:%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        path,
        upstream.host.encode(),
        upstream.port,
        len(body),
        body,
    )


def get_request(upstream: Upstream, path: bytes) -> bytes:
    """Write a GET."""
    return b"GET %b HTTP/1.1\r\nHost: %b:%d\r\n\r\n" % (path, upstream.host.encode(), upstream.port)
