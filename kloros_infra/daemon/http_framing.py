"""Read requests from bytes and write response heads, strictly by RFC 9110 and 9112; no I/O.

llhttp (httptools) refuses what cannot be framed safely: Content-Length with Transfer-Encoding,
repeated or odd Content-Length, folded headers, bare CR or LF, control characters. The checks here
are the ones that it leaves to its user: version, Host, Origin, sizes, encodings.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Final

import httptools

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.known_head import KnownHead, framing_of, known_head
from kloros_infra.diagnostics import Diagnostic

JSON = b"application/json; charset=utf-8"
NDJSON = b"application/x-ndjson"
TEXT = b"text/plain; charset=utf-8"
EVENT_STREAM = b"text/event-stream"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
MOST_BEGUN = 64

_LOOPBACK = rb"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])"
_HOST = re.compile(rb"(?i:%b)(?::\d{1,5})?" % _LOOPBACK)
_ORIGIN = re.compile(rb"(?i:https?://%b)(?::\d{1,5})?" % _LOOPBACK)
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class Phase(Enum):
    """Where in a request the reader is."""

    BETWEEN = "between requests"
    HEAD = "head"
    BODY = "body"


# Looking a member up in its Enum takes Python 3.11 ten times as long as looking up a name.
BETWEEN: Final = Phase.BETWEEN
HEAD: Final = Phase.HEAD
BODY: Final = Phase.BODY


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a client may do to us; sizes in bytes."""

    target_bytes: int = 8 * 1024
    header_bytes: int = 8 * 1024
    headers: int = 64
    head_bytes: int = 128 * 1024
    body_bytes: int = 32 * 1024 * 1024
    pipelined: int = 16
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 75.0
    stalled_reader_timeout_s: float = 60.0
    drain_s: float = 30.0
    hosts: frozenset[str] = frozenset()
    """Host names that may be asked for besides loopback, in lower case."""

    def allowed_s(self, phase: Phase) -> float:
        """Say how long a client may stay in a phase."""
        if phase is BETWEEN:
            return self.idle_timeout_s
        return self.head_timeout_s if phase is HEAD else self.body_timeout_s


@dataclass(slots=True, eq=False)
class Request:
    """One whole request; `path` is without the `query`, both as sent."""

    method: str
    path: bytes
    origin: bytes
    purpose: bytes
    is_persistent: bool
    body: bytes
    query: bytes = b""
    authorization: bytes = b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that cannot be read on: answer it and close."""

    status: int
    problem: Diagnostic
    path: bytes = b""


class _RefusedError(Exception):
    """Stop the parser; the refusal is already recorded."""


class _Head:
    """What is known of the request that is being read."""

    __slots__ = ("authorization", "body", "body_bytes", "headers", "host", "origin", "purpose", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers = 0
        self.host: bytes | None = None
        self.origin = b""
        self.purpose = b""
        self.authorization = b""
        self.body: list[bytes] = []
        self.body_bytes = 0


class RequestReader:
    """Turn bytes into `arrivals`: requests in order, and at most one refusal, which is the last."""

    def __init__(self, limits: HttpLimits) -> None:
        self.arrivals: deque[Request | Refusal] = deque()
        self.phase: Phase = BETWEEN
        self.wants_continue = False
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._head = _Head()
        self._is_refused = False
        self._useful_bytes = 0
        self._overhead_bytes = 0
        # A connection names the same host again and again.
        self._allowed_host: bytes | None = None
        self._known: tuple[KnownHead, Request] | None = None
        self._may_know = False

    def whole(self, data: bytes) -> Request | None:
        """Read a request that came in one piece and begins as the one before; None where it has to be fed.

        It is the one before with another body: who asked that is answered.
        """
        if self._known is None or self.phase is not BETWEEN:
            return None
        known, request = self._known
        framing = framing_of(data, known)
        if framing is None:
            return None
        begin, length = framing
        body = data[begin:]
        if len(body) != length or length > self._limits.body_bytes:
            return None
        request.body = body
        return request

    def feed(self, data: bytes) -> None:
        """Read on; after a refusal everything is dropped."""
        if self._is_refused:
            return
        useful_bytes = self._useful_bytes
        is_first, arrived = self.phase is BETWEEN, len(self.arrivals)
        self._may_know = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(501, http_problems.malformed("it asks for another protocol"))
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501, http_problems.malformed("its method is not known"))
        except httptools.HttpParserError as error:
            if not self._is_refused:
                self._refuse(400, http_problems.malformed(str(error)))
        if is_first and self._may_know and len(self.arrivals) == arrived + 1:
            self._remember(data, self.arrivals[-1])
        if self.phase is BETWEEN or self._useful_bytes > useful_bytes:
            self._overhead_bytes = 0
        else:
            self._bound_overhead(len(data))

    def refuse_slow(self) -> None:
        """Give up on a client that does not finish its request."""
        if self.phase is HEAD:
            self._refuse(408, http_problems.too_slow("head", self._limits.head_timeout_s))
        else:
            self._refuse(408, http_problems.too_slow("body", self._limits.body_timeout_s))

    def _bound_overhead(self, size_bytes: int) -> None:
        """Bound what is neither body nor a finished header: endless names, trailers, chunk extensions."""
        self._overhead_bytes += size_bytes
        if self._overhead_bytes > self._limits.head_bytes:
            self._refuse(431, http_problems.too_large("head", f"{self._limits.head_bytes} bytes"))

    def _refuse(self, status: int, problem: Diagnostic) -> None:
        if not self._is_refused:
            self._is_refused = True
            self._known = None
            self.phase = BETWEEN
            self.arrivals.append(Refusal(status, problem, self._head.target))

    def _remember(self, data: bytes, request: Request | Refusal) -> None:
        """Know the head of a request that came whole, so that the next one need not be parsed."""
        known = known_head(data)
        if known is not None and isinstance(request, Request):
            begin, length = framing_of(data, known) or (0, 0)
            self._known = (known, request) if len(data) == begin + length else None

    def _stop(self, status: int, problem: Diagnostic) -> None:
        """Refuse from within the parser, which an exception makes stop."""
        self._refuse(status, problem)
        raise _RefusedError

    # Called by the parser.

    def on_message_begin(self) -> None:
        self.phase = HEAD
        self._head = _Head()

    def on_url(self, part: bytes) -> None:
        head = self._head
        head.target += part
        if len(head.target) > self._limits.target_bytes:
            head.target = b""
            self._stop(414, http_problems.too_large("request line", f"{self._limits.target_bytes} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        head, limits = self._head, self._limits
        head.headers += 1
        if head.headers > limits.headers:
            self._stop(431, http_problems.too_large("number of headers", str(limits.headers)))
        if len(name) + len(value) > limits.header_bytes:
            self._stop(431, http_problems.too_large(f"header '{_shown(name)}'", f"{limits.header_bytes} bytes"))
        check = _HEADER_CHECKS.get(name.lower())
        # Trailers come here too, after the head has been judged; they change nothing.
        if check is not None and self.phase is HEAD:
            check(self, value)

    def _on_host(self, value: bytes) -> None:
        if self._head.host is not None:
            self._stop(400, http_problems.malformed("it has two Host headers"))
        self._head.host = value

    def _on_origin(self, value: bytes) -> None:
        self._head.origin = value
        if not _ORIGIN.fullmatch(value):
            self._stop(403, http_problems.foreign_origin(_shown(value)))

    def _on_purpose(self, value: bytes) -> None:
        self._head.purpose = value

    def _on_authorization(self, value: bytes) -> None:
        if self._head.authorization:
            self._stop(400, http_problems.malformed("it has two Authorization headers"))
        self._head.authorization = value

    def _on_content_length(self, value: bytes) -> None:
        # llhttp has not looked at the value yet when it is handed over here.
        if value.isdigit() and int(value) > self._limits.body_bytes:
            self._stop(413, http_problems.too_large("body", f"{self._limits.body_bytes} bytes"))

    def _on_transfer_encoding(self, value: bytes) -> None:
        if value.lower() != b"chunked":
            self._stop(501, http_problems.malformed(f"its Transfer-Encoding is '{_shown(value)}'"))

    def _on_content_encoding(self, value: bytes) -> None:
        if value.lower() != b"identity":
            self._stop(415, http_problems.malformed(f"its body is encoded as '{_shown(value)}'"))

    def _on_expect(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            self._stop(417, http_problems.malformed(f"it expects '{_shown(value)}'"))
        self.wants_continue = True

    def on_headers_complete(self) -> None:
        version = self._parser.get_http_version()
        if version != "1.1":
            self._stop(505, http_problems.malformed(f"it is HTTP/{version}"))
        head = self._head
        if head.host is None:
            self._stop(400, http_problems.malformed("it has no Host header"))
        elif head.host != self._allowed_host:
            self._check_host(head.host)
        if head.target[:1] != b"/":
            self._use_absolute_target()
        if b"#" in head.target:
            self._stop(400, http_problems.malformed("its target has a fragment"))
        self.phase = BODY

    def _check_host(self, host: bytes) -> None:
        if not _HOST.fullmatch(host) and _name_of(host) not in self._limits.hosts:
            self._stop(403, http_problems.foreign_host(_shown(host)))
        self._allowed_host = host

    def _use_absolute_target(self) -> None:
        """Take `http://host/path` apart; its host outranks the header (RFC 9112, section 3.2.2)."""
        scheme, separator, rest = self._head.target.partition(b"://")
        if self._head.target == b"*":
            return
        if not separator or scheme.lower() != b"http":
            self._stop(400, http_problems.malformed("its target is not a path"))
        authority, _, path = rest.partition(b"/")
        self._check_host(authority.partition(b"?")[0])
        self._head.target = b"/" + path

    def on_body(self, part: bytes) -> None:
        head = self._head
        head.body_bytes += len(part)
        self._useful_bytes += len(part)
        if head.body_bytes > self._limits.body_bytes:
            head.body.clear()
            self._stop(413, http_problems.too_large("body", f"{self._limits.body_bytes} bytes"))
        head.body.append(part)

    def on_message_complete(self) -> None:
        head, parser = self._head, self._parser
        self._useful_bytes += 1
        self.phase = BETWEEN
        expects, self.wants_continue = self.wants_continue, False
        self._known = None
        if parser.should_upgrade():
            return
        body = head.body[0] if len(head.body) == 1 else b"".join(head.body)
        path, _, query = head.target.partition(b"?")
        method = parser.get_method().decode("ascii")
        is_persistent = parser.should_keep_alive()
        self._may_know = is_persistent and not expects
        self.arrivals.append(
            Request(method, path, head.origin, head.purpose, is_persistent, body, query, head.authorization)
        )


_HEADER_CHECKS = {
    b"host": RequestReader._on_host,
    b"origin": RequestReader._on_origin,
    b"x-kloros-purpose": RequestReader._on_purpose,
    b"authorization": RequestReader._on_authorization,
    b"content-length": RequestReader._on_content_length,
    b"transfer-encoding": RequestReader._on_transfer_encoding,
    b"content-encoding": RequestReader._on_content_encoding,
    b"expect": RequestReader._on_expect,
}


class ResponseHeads:
    """Write response heads; the Date line (RFC 9110, section 6.6.1) is renewed once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._date = b""
        self._begun: dict[tuple[int, bytes], bytes] = {}
        """What was written within this second, which most answers have in common."""

    def head(self, status: int, content_type: bytes, length: int | None, *, now: float, extra: bytes = b"") -> bytes:
        """Write a head; no length means chunked; `extra` are whole header lines."""
        second = int(now)
        if second != self._second or len(self._begun) > MOST_BEGUN:
            self._turn(second)
        begun = self._begun.get((status, content_type))
        if begun is None:
            kind = b"Content-Type: %b\r\n" % content_type if content_type else b""
            begun = self._begun[status, content_type] = b"".join((_status_line(status), self._date, kind))
        if length is None:
            return b"%bTransfer-Encoding: chunked\r\n%b\r\n" % (begun, extra)
        return b"%bContent-Length: %d\r\n%b\r\n" % (begun, length, extra)

    def _turn(self, second: int) -> None:
        self._second = second
        self._date = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        self._begun.clear()


def chunk(data: bytes) -> bytes:
    """Frame data as one chunk; empty data would end the body, so it gives nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def _name_of(host: bytes) -> str:
    return re.sub(rb":\d{1,5}$", b"", host).decode("latin-1").lower()


def _shown(value: bytes) -> str:
    """Make a stranger's bytes fit for a message."""
    return value[:100].decode("ascii", "backslashreplace")
