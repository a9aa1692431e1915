"""One keep-alive connection to a target, and the exchange it carries.

What arrives is parsed before it is handed on, so garbage never gets further than here; the body's
bytes are handed on as they came, one call per read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import httptools

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.exchange import Exchange, ResponseHead
from kloros_infra.daemon.known_head import KnownHead, framing_of, known_head
from kloros_infra.router.effects import Target
from kloros_infra.router.events import Outcome

RETRY_STATUSES = (429, 503)
STALE_WITHIN_S = 0.1
KEEPALIVE_S = 1
# The kernel looks every KEEPALIVE_S: a host that has vanished is known after two looks (tcp(7)).
VANISHED_MS = 1500

Endpoint = tuple[str, int, bool]
"""Address, port, and whether it is asked over TLS."""


def endpoint_of(target: Target) -> Endpoint:
    """Say which connections may carry requests to a target."""
    return target.address, target.port, target.is_tls


class UpstreamConnection(asyncio.Protocol):
    """A connection; `on_free` gets it back after a clean answer, `on_stale` its unanswered exchange."""

    def __init__(self, on_free: Callable[[UpstreamConnection], None], on_stale: Callable[[Exchange], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoint: Endpoint = ("", 0, False)
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
        self._known: tuple[KnownHead, bytes] | None = None
        """The head of an answer before, and its content type."""
        self._left = 0
        """Bytes of a body that are still to come, where its head was known."""
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
        self._begun_at = exchange.heard_at
        self._responses = self._left = 0
        self._is_complete = False
        transport.write(exchange.request)

    def watch_peer(self) -> None:
        """Have the kernel notice that the host at the other end has vanished, as none on this machine can."""
        transport = self._transport
        # asyncio gives a socket of its own type with the methods that are needed here.
        sock: socket.socket | None = transport.get_extra_info("socket") if transport is not None else None
        if sock is None:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_MS)

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
        exchange.heard_at = self.loop.time()
        if self._left:
            self._hand_on_counted(exchange, data)
            return
        if not exchange.has_started:
            exchange.has_started = True
            if self._known is not None and self._hand_on_known(exchange, self._known, data):
                return
        is_first = self._responses == 0
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._exchange = None
            exchange.fail(http_problems.not_http(exchange.target, _reason(error)), Outcome.BROKEN)
            return
        if self._responses > 1:
            problem = http_problems.not_http(exchange.target, "more than one response to one request")
            exchange.fail(problem, Outcome.BROKEN)
            return
        if is_first:
            self._remember(data)
        self._hand_on(exchange)

    def _remember(self, data: bytes) -> None:
        """Know the head of a plain answer, so that the next one need not be parsed."""
        head, parser = self._head, self._parser
        if head is None or parser is None or head.status != 200 or head.length is None:
            return
        known = known_head(data)
        # Once an answer is complete the parser knows no more whether its connection may be used again.
        is_reusable = self._is_reusable if self._is_complete else parser.should_keep_alive()
        self._known = (known, head.content_type) if known is not None and is_reusable else None

    def _hand_on_known(self, exchange: Exchange, remembered: tuple[KnownHead, bytes], data: bytes) -> bool:
        """Hand on an answer that begins as one before, without the parser; say whether it does."""
        known, content_type = remembered
        framing = framing_of(data, known)
        if framing is None:
            return False
        begin, length = framing
        body = data[begin:]
        if len(body) == length:
            exchange.sink.on_whole(content_type, body)
            self._is_reusable = True
            self._let_go(exchange)
            return True
        self._left = length
        exchange.sink.on_head(ResponseHead(200, content_type, length, b""))
        if not exchange.is_over and body:
            self._hand_on_counted(exchange, body)
        return True

    def _hand_on_counted(self, exchange: Exchange, data: bytes) -> None:
        self._left = left = self._left - len(data)
        if left == 0:
            self._is_reusable = True
            exchange.sink.on_body(data, is_last=True)
            self._let_go(exchange)
        elif left > 0:
            exchange.sink.on_body(data, is_last=False)
        else:
            exchange.fail(http_problems.not_http(exchange.target, "it is longer than it says"), Outcome.BROKEN)

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
        self.free_since = exchange.heard_at
        exchange.complete()
        if self._is_paused:
            self.resume()
        if self._is_reusable and self._transport is not None:
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
            outcome = Outcome.BROKEN if exchange.has_started else Outcome.UNREACHED
            exchange.fail(http_problems.answer_cut_off(exchange.target), outcome)

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
