"""One keep-alive connection to a llama-server, and the exchange it carries.

What arrives is parsed before it is handed on, so garbage never gets further than here; the body's
bytes are handed on as they came, one call per read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.deadlines import NEVER
from kloros_infra.daemon.ports import UpstreamError
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.routing import Upstream

RETRY_STATUSES = (429, 503)
STALE_WITHIN_S = 0.1


@dataclass(slots=True, eq=False)
class ResponseHead:
    """An upstream's status and the headers that concern the client; no length means chunked."""

    status: int
    content_type: bytes
    length: int | None
    retry_after: bytes


class ResponseSink(Protocol):
    """Takes an answer: one head, then bodies of which one is the last; or a failure at any point."""

    def on_head(self, head: ResponseHead) -> None: ...
    def on_body(self, data: bytes, *, is_last: bool) -> None: ...
    def on_failure(self, error: UpstreamError) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upstream may be silent, before its first byte and between two."""

    first_byte_s: float
    idle_s: float


class Exchange:
    """One request to an upstream and its answer, which goes to `sink`."""

    __slots__ = (
        "_on_end",
        "connection",
        "deadline",
        "has_started",
        "is_over",
        "patience",
        "request",
        "sink",
        "upstream",
    )

    def __init__(
        self,
        upstream: Upstream,
        request: bytes,
        sink: ResponseSink,
        patience: Patience,
        on_end: Callable[[Exchange], None],
    ) -> None:
        self.upstream = upstream
        self.request = request
        self.sink = sink
        self.patience = patience
        self.connection: UpstreamConnection | None = None
        self.deadline = NEVER
        self.has_started = False
        self.is_over = False
        self._on_end = on_end

    def send_on(self, connection: UpstreamConnection) -> None:
        """Send the request on a connection that is free."""
        self.connection = connection
        self.deadline = connection.loop.time() + self.patience.first_byte_s
        connection.begin(self)

    def cancel(self) -> None:
        """Want no more of the answer: the connection is closed, so that llama-server frees the slot."""
        if not self.is_over:
            self._end()

    def pause(self) -> None:
        """Stop reading: whoever takes the answer is slower than the upstream."""
        if self.connection is not None:
            self.connection.pause()
            self.deadline = NEVER

    def resume(self) -> None:
        """Read on."""
        if self.connection is not None:
            self.connection.resume()
            self.deadline = self.connection.loop.time() + self.patience.idle_s

    def expire(self) -> None:
        """Give up on an upstream that is silent for too long."""
        if self.has_started:
            self.fail(http_problems.answer_stalled(self.upstream, self.patience.idle_s))
        else:
            self.fail(http_problems.no_first_byte(self.upstream, self.patience.first_byte_s))

    def complete(self) -> None:
        """Note that the answer is whole; the connection is free again."""
        self.is_over = True
        self.connection = None
        self._on_end(self)
        # It knows us as we know it: without this, every request would leave work to the garbage collector.
        del self.sink

    def fail(self, problem: Diagnostic, *, reached: bool = True) -> None:
        """End without a whole answer."""
        if not self.is_over:
            self._end()
            self.sink.on_failure(UpstreamError(problem, reached=reached, started=self.has_started))

    def _end(self) -> None:
        self.is_over = True
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
        self._on_end(self)


class UpstreamConnection(asyncio.Protocol):
    """A connection; `on_free` gets it back after a clean answer, `on_stale` its unanswered exchange."""

    def __init__(self, on_free: Callable[[UpstreamConnection], None], on_stale: Callable[[Exchange], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoint: tuple[str, int] = ("", 0)
        self.free_since = 0.0
        self._on_free = on_free
        self._on_stale = on_stale
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._exchanges = 0
        self._begun_at = 0.0
        self._is_paused = False
        self._head: ResponseHead | None = None
        self._responses = 0
        self._is_complete = False
        self._is_reusable = False
        # Bound methods of built-in types: the parser calls them without entering Python code.
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self.on_header = self._headers.setdefault
        self.on_body = self._parts.append

    @property
    def is_usable(self) -> bool:
        """Say whether a request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing() and self._exchange is None

    def begin(self, exchange: Exchange) -> None:
        """Send an exchange's request."""
        transport = self._transport
        if transport is None:
            raise ConnectionError("the connection is closed")
        self._exchange = exchange
        self._exchanges += 1
        self._begun_at = self.loop.time()
        self._responses = 0
        self._is_complete = False
        transport.write(exchange.request)

    def abort(self) -> None:
        """Close at once; nothing more is reported."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading from the socket."""
        if self._transport is not None and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the socket again."""
        if self._transport is not None and self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's signature is wider than what a TCP connection gives; uvloop's type is no subclass.
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            # Bytes that nobody asked for: whatever comes next would be taken for another's answer.
            self.abort()
            return
        exchange.has_started = True
        exchange.deadline = self.loop.time() + exchange.patience.idle_s
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._exchange = None
            exchange.fail(http_problems.not_http(exchange.upstream, _reason(error)))
            return
        if self._responses > 1:
            exchange.fail(http_problems.not_http(exchange.upstream, "more than one response to one request"))
            return
        self._hand_on(exchange)

    def _hand_on(self, exchange: Exchange) -> None:
        head, self._head = self._head, None
        if head is not None:
            exchange.sink.on_head(head)
            if exchange.is_over:
                return
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if self._is_complete:
            exchange.sink.on_body(data, is_last=True)
            self._let_go(exchange)
        elif data:
            exchange.sink.on_body(data, is_last=False)

    def _let_go(self, exchange: Exchange) -> None:
        """End a complete exchange; the connection is free, or closed if it may not be used again."""
        if exchange.is_over:
            return
        self._exchange = None
        exchange.complete()
        self.resume()
        if self._is_reusable and self.is_usable:
            self._on_free(self)
        else:
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        # llama-server closed an idle connection just as the request was sent (RFC 9112, section 9.3.1). One that is
        # lost later was at work on the request, which may be what ended it: it is not sent again.
        is_stale = self._exchanges > 1 and self.loop.time() - self._begun_at < STALE_WITHIN_S
        self._transport = self._parser = None
        if exchange is None:
            return
        exchange.connection = None
        if is_stale and not exchange.has_started:
            self._on_stale(exchange)
        else:
            exchange.fail(http_problems.answer_cut_off(exchange.upstream), reached=False)

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._responses += 1
        self._headers.clear()

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None or self._responses > 1:
            return
        status = parser.get_status_code()
        if status < 200:
            raise httptools.HttpParserError(f"unasked interim response {status}")
        length = self._header(b"Content-Length")
        is_chunked = not length and self._header(b"Transfer-Encoding").lower() == b"chunked"
        if not length and not is_chunked and status not in (204, 304):
            raise httptools.HttpParserError("a response without a length cannot be told from a cut one")
        retry_after = self._header(b"Retry-After") if status in RETRY_STATUSES else b""
        content_type = self._header(b"Content-Type")
        self._head = ResponseHead(status, content_type, None if is_chunked else int(length or 0), retry_after)

    def on_message_complete(self) -> None:
        self._is_complete = True
        # The parser knows it here and no longer afterwards.
        self._is_reusable = self._parser is not None and self._parser.should_keep_alive()

    def _header(self, name: bytes) -> bytes:
        """Find a header; llama-server spells names as they are asked for here, others are searched for."""
        found = self._headers.get(name)
        if found is None:
            wanted = name.lower()
            found = next((value for key, value in self._headers.items() if key.lower() == wanted), b"")
        return found


def _reason(error: Exception) -> str:
    """Name what a callback here objected to, or what the parser did."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
    if isinstance(error, httptools.HttpParserUpgrade):
        return "it changes the protocol"
    return str(cause or error)
