"""Call targets: keep-alive connections, deadlines, whole chat answers for the bus."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.collected import ChatSink, WholeSink
from kloros_infra.daemon.deadlines import DeadlineWatch, fair_timeout
from kloros_infra.daemon.exchange import Exchange, Patience, ResponseSink
from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.daemon.ports import Credentials, Hearer, UpstreamError
from kloros_infra.daemon.upstream_connection import Endpoint, UpstreamConnection, endpoint_of
from kloros_infra.daemon.upstream_request import get_request, owner_of, place_of, post_head, post_request
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Send, Target
from kloros_infra.router.events import Outcome, Verdict

# What this process or machine has no more of; no target is to blame for it.
_OUR_LACK = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """How patient we are with targets beside what each request is allowed.

    The first byte of a whole answer comes after all is generated, which takes minutes on a CPU: it may take
    `whole_answer_s`, and no longer than its request. After `doubt_s` of silence a target is asked for its health.
    """

    connect_s: float = 1.0
    tls_connect_s: float = 3.0
    whole_answer_s: float = 900.0
    doubt_s: float = 0.5
    # cpp-httplib, llama-server's HTTP library, closes a connection that was idle for 5 s.
    keep_s: float = 4.0
    sweep_s: float = 0.05
    ask_again_s: float = 0.25


class Way(NamedTuple):
    """How a target was asked last: the request's head up to the digits of its length."""

    target: Target
    path: bytes
    head: bytes
    endpoint: Endpoint


class UpstreamPool:
    """Implements `daemon.ports.Upstreams` and `HealthChecks`, and `exchange`, which the HTTP bridge lives on."""

    def __init__(
        self,
        limits: UpstreamLimits | None = None,
        *,
        credentials: Credentials | None = None,
        new_tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self.limits = limits or UpstreamLimits()
        self.credentials = credentials
        """What the service manager handed over, with the keys of HTTP clients."""
        self._new_tls = new_tls
        self._tls: ssl.SSLContext | None = None
        self._free: defaultdict[Endpoint, list[UpstreamConnection]] = defaultdict(list)
        self._connecting: set[asyncio.Task[None]] = set()
        self._watch: DeadlineWatch[Exchange] = DeadlineWatch(self.limits.sweep_s)
        self.on_over: Callable[[Exchange], None] = self._watch.forget
        """Called by exchanges that have ended: they are watched no more."""
        self._doubted: Callable[[Target], None] | None = None
        # What the next request will most likely need again.
        self._ways: dict[str, Way] = {}
        self._patience = Patience(0.0, 0.0)

    def patience(self, send: Send, *, is_stream: bool) -> Patience:
        """Say how long an attempt may be silent."""
        limits = self.limits
        first_byte_s, left_s = send.first_byte_s, send.left_s
        if not is_stream:
            # Rounded up, so that what was made for one request does for the next, and nobody is blamed for a deadline.
            first_byte_s = limits.whole_answer_s
            if left_s <= first_byte_s - 1:
                first_byte_s = math.ceil(left_s)
        patience, stall_s = self._patience, send.stall_s
        if patience.first_byte_s != first_byte_s or patience.idle_s != stall_s:
            self._patience = patience = Patience(first_byte_s, stall_s, limits.doubt_s)
        return patience

    def exchange(
        self, target: Target, path: bytes, body: bytes, sink: ResponseSink, *, patience: Patience
    ) -> Exchange | UpstreamError:
        """Post a request; the answer goes to the sink as it comes. What cannot even be written is given back."""
        way = self._ways.get(target.name)
        if way is not None and way.target is target and way.path is path:
            return self._begin(way.endpoint, Exchange(target, post_request(way.head, body), sink, patience, self))
        secret = None
        if target.credential is not None:
            try:
                secret = self._secret(target)
            except UpstreamError as error:
                return error
        head = post_head(target, path, secret)
        if secret is None:
            self._ways[target.name] = Way(target, path, head, endpoint_of(target))
        return self._begin(endpoint_of(target), Exchange(target, post_request(head, body), sink, patience, self))

    def chat(self, send: Send, body: Mapping[str, Any], hearer: Hearer) -> Exchange | UpstreamError:
        """Ask for a chat completion, which the hearer gets as it comes. What cannot even be written is given back.

        It is streamed from the target whatever the body says: that is how the time to the first
        token is known, and how a target that hangs is told from one that is slow.
        """
        target = send.target
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        if target.asked_as is not None:
            asked["model"] = target.asked_as
        sink = ChatSink(target, hearer, body, asyncio.get_running_loop().time)
        patience = Patience(send.first_byte_s, send.stall_s, self.limits.doubt_s)
        return self.exchange(target, b"/v1/chat/completions", dump(asked), sink, patience=patience)

    async def check(self, target: Target, path: bytes, *, timeout_s: float) -> Verdict:
        """Ask for a target's health: 200 is healthy, 503 loading (llama-server, tools/server/README.md)."""
        while True:
            try:
                status, _ = await self._get(target, path, timeout_s)
                break
            except (UpstreamError, TimeoutError) as error:
                if not isinstance(error, UpstreamError) or error.outcome is not Outcome.BUSY:
                    return Verdict.FAILING
            # We could not even ask: that says nothing of the target.
            await asyncio.sleep(self.limits.ask_again_s)
        return {200: Verdict.HEALTHY, 503: Verdict.LOADING}.get(status, Verdict.FAILING)

    async def is_switched_on(self, url: str, *, timeout_s: float) -> bool:
        """Ask a remote host's toggle; True where it cannot be asked, as KLoROS's own client takes it."""
        target, path = place_of(url)
        try:
            status, body = await self._get(target, path, timeout_s)
        except (UpstreamError, TimeoutError):
            return True
        said = parse_object(body)
        return status != 200 or isinstance(said, Diagnostic) or said.get("enabled") is not False

    async def properties(self, target: Target, *, timeout_s: float) -> Mapping[str, Any]:
        """Ask `GET /props`: chat template and what it can do; empty when there is no answer."""
        try:
            status, body = await self._get(target, b"/props", timeout_s)
        except (UpstreamError, TimeoutError):
            return {}
        found = parse_object(body)
        return {} if status != 200 or isinstance(found, Diagnostic) else found

    def watch_silence(self, told: Callable[[Target], None]) -> None:
        """Name who is told of targets that have something to answer and are silent."""
        self._doubted = told

    def give_up(self, target: str) -> None:
        """End what waits for an instance or a host in vain: it does not answer its health check either."""
        now = asyncio.get_running_loop().time()
        for exchange in self._watch.things():
            if owner_of(exchange.target.name) == target and now - exchange.heard_at >= self.limits.doubt_s:
                exchange.give_up(now)

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

    # Called by exchanges.

    def on_doubt(self, exchange: Exchange) -> None:
        """Pass on that a target is silent."""
        if self._doubted is not None:
            self._doubted(exchange.target)

    # Own steps.

    async def _get(self, target: Target, path: bytes, timeout_s: float) -> tuple[int, bytes]:
        sink = WholeSink(asyncio.get_running_loop())
        secret = None if target.credential is None else self._secret(target)
        request, patience = get_request(target, path, secret), Patience(timeout_s, timeout_s)
        exchange = self._begin(endpoint_of(target), Exchange(target, request, sink, patience, self))
        try:
            async with fair_timeout(timeout_s):
                return await sink.outcome
        finally:
            exchange.cancel()

    def _secret(self, target: Target) -> str:
        """Read a credential each time it is needed: it may be exchanged while the router runs."""
        if self.credentials is None or target.credential is None:
            problem = http_problems.no_credential(target, "this router was given no folder of credentials")
            raise UpstreamError(problem, outcome=Outcome.UNREACHED, started=False)
        try:
            return self.credentials.read(target.credential)
        except OSError as error:
            problem = http_problems.no_credential(target, error.strerror or str(error))
            raise UpstreamError(problem, outcome=Outcome.UNREACHED, started=False) from error

    def _begin(self, endpoint: Endpoint, exchange: Exchange) -> Exchange:
        self._watch.add(exchange)
        connection = self._take_free(endpoint)
        if connection is None:
            self._connect_for(exchange)
        else:
            exchange.send_on(connection)
        return exchange

    def _take_free(self, endpoint: Endpoint) -> UpstreamConnection | None:
        """Take the connection used last, and drop those that the target is about to close."""
        connections = self._free[endpoint]
        while connections:
            connection = connections.pop()
            if connection.is_usable and connection.loop.time() - connection.free_since < self.limits.keep_s:
                return connection
            connection.abort()
        return None

    def _give_back(self, connection: UpstreamConnection) -> None:
        self._free[connection.endpoint].append(connection)

    def _connect_for(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, exchange: Exchange) -> None:
        target = exchange.target
        limit_s = self.limits.tls_connect_s if target.is_tls else self.limits.connect_s
        try:
            async with fair_timeout(limit_s):
                connection = await self._connected(target)
        except TimeoutError:
            problem = http_problems.cannot_connect(target, f"no reply in {limit_s:g} s")
            exchange.fail(problem, Outcome.UNREACHED)
        except OSError as error:
            outcome = Outcome.BUSY if error.errno in _OUR_LACK else Outcome.UNREACHED
            exchange.fail(http_problems.cannot_connect(target, _reason(error)), outcome)
        else:
            if exchange.is_over:
                connection.free_since = connection.loop.time()
                self._give_back(connection)
            else:
                exchange.send_on(connection)

    async def _connected(self, target: Target) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        if target.is_tls and self._tls is None:
            # Reading the machine's certificates takes milliseconds that only those pay who need them.
            self._tls = self._new_tls()
        tls = self._tls if target.is_tls else None
        _, connection = await loop.create_connection(self._new_connection, target.address, target.port, ssl=tls)
        connection.endpoint = endpoint_of(target)
        if not target.is_local:
            connection.watch_peer()
        return connection

    def _new_connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._give_back, self._connect_for)


def _reason(error: OSError) -> str:
    """Name the reason: asyncio's own text would name the address again, TLS and DNS have words of their own."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.lower()
    is_of_the_kernel = error.errno and not isinstance(error, ssl.SSLError) and error.errno > 0
    return os.strerror(error.errno).lower() if is_of_the_kernel and error.errno else str(error)
