"""Carry one client's request to an upstream and the answer back, in the client's dialect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kloros_infra.daemon import http_problems, ollama, ollama_answers, openai
from kloros_infra.daemon.http_framing import EVENT_STREAM, JSON, NDJSON
from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.daemon.ollama_answers import AnswerShape, LineStream
from kloros_infra.daemon.ports import Directory, UpstreamError
from kloros_infra.daemon.sse import error_event
from kloros_infra.daemon.upstream import UpstreamPool, post_request
from kloros_infra.daemon.upstream_connection import Exchange, ResponseHead
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.router.persona import merge_persona
from kloros_infra.router.select import Query, Selected

RETRY_SOON = b"Retry-After: 1\r\n"
_GATEWAY_STATUS = {"KI820": 502, "KI821": 504, "KI822": 504}


class Work(Protocol):
    """What a client waits for."""

    def cancel(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Client(Protocol):
    """The connection that asked, as far as answering goes."""

    def wait_for(self, work: Work) -> None: ...
    def reply(self, status: int, body: bytes, *, content_type: bytes = JSON, extra: bytes = b"") -> None: ...
    def send_head(self, status: int, content_type: bytes, length: int | None, *, extra: bytes = b"") -> None: ...
    def send_body(self, data: bytes, *, is_last: bool) -> None: ...
    def cut(self, last_words: bytes) -> None: ...


ErrorWriter = Callable[[int, Problems], bytes]


@dataclass(slots=True, eq=False)
class Order:
    """A checked request, ready for whichever upstream is chosen.

    `sent` are the client's own bytes: they are forwarded where nothing in the body changes.
    """

    path: bytes
    query: Query
    body: dict[str, Any]
    sent: bytes | None
    is_stream: bool


@dataclass(slots=True, eq=False)
class Means:
    """What relaying needs of the router."""

    directory: Directory
    upstreams: UpstreamPool
    now: Callable[[], float]
    route_lines: dict[str, bytes]
    """Response header lines by instance, written once."""


class Relay:
    """Passes an answer on untouched (OpenAI's dialect is llama-server's own)."""

    __slots__ = ("_client", "_exchange", "_has_retried", "_head", "_means", "_order", "_tail", "_upstream")

    def __init__(self, means: Means, client: Client, order: Order, chosen: Selected) -> None:
        self._means = means
        self._client = client
        self._order = order
        self._head: ResponseHead | None = None
        self._tail = b""
        self._has_retried = False
        client.wait_for(self)
        self._send(chosen)

    @property
    def errors(self) -> ErrorWriter:
        """Write errors in this dialect."""
        return openai.error_body

    # The client's side.

    def cancel(self) -> None:
        """Stop: the client is gone."""
        self._exchange.cancel()
        self._means.directory.finished(self._upstream, reached=True)

    def pause(self) -> None:
        """Wait for the client to read."""
        self._exchange.pause()

    def resume(self) -> None:
        """Go on."""
        self._exchange.resume()

    # The upstream's side.

    def on_head(self, head: ResponseHead) -> None:
        self._head = head
        self._client.send_head(head.status, head.content_type, head.length, extra=self._extra(head))

    def on_body(self, data: bytes, *, is_last: bool) -> None:
        if is_last:
            self._means.directory.finished(self._upstream, reached=True)
        self._tail = data
        self._client.send_body(data, is_last=is_last)

    def on_failure(self, error: UpstreamError) -> None:
        self._means.directory.finished(self._upstream, reached=error.reached)
        if error.problem.code == http_problems.CANNOT_CONNECT and not self._has_retried and self._retry():
            return
        if self._has_begun():
            self._client.cut(self._last_words(error.problem))
        else:
            status = _GATEWAY_STATUS.get(error.problem.code, 502)
            self._client.reply(status, self.errors(status, (error.problem,)), extra=self._route_lines())

    # Own steps.

    def _send(self, chosen: Selected) -> None:
        order, upstream = self._order, chosen.upstream
        self._upstream = upstream
        payload = order.sent
        if chosen.persona is not None and "messages" in order.body:
            payload = dump(merge_persona(order.body, chosen.persona))
        elif payload is None:
            payload = dump(order.body)
        self._means.directory.started(upstream)
        request = post_request(upstream, order.path, payload)
        self._exchange: Exchange = self._means.upstreams.exchange(upstream, request, self, is_stream=order.is_stream)

    def _retry(self) -> bool:
        """Ask another instance, once; nothing has reached the client yet."""
        self._has_retried = True
        decision = self._means.directory.choose(self._order.query)
        if not isinstance(decision, Selected) or decision.upstream == self._upstream:
            return False
        self._send(decision)
        return True

    def _has_begun(self) -> bool:
        return self._head is not None

    def _last_words(self, problem: Diagnostic) -> bytes:
        if self._head is None or not self._head.content_type.startswith(EVENT_STREAM):
            return b""
        # What came last may be half an event: end it, so that the error is one of its own.
        separator = b"" if not self._tail or self._tail.endswith(b"\n\n") else b"\n\n"
        return separator + error_event(self.errors(502, (problem,)))

    def _extra(self, head: ResponseHead) -> bytes:
        lines = self._route_lines()
        return lines if not head.retry_after else lines + b"Retry-After: %b\r\n" % head.retry_after

    def _route_lines(self) -> bytes:
        upstream, known = self._upstream, self._means.route_lines
        lines = known.get(upstream.instance)
        if lines is None:
            lines = f"X-Kloros-Instance: {upstream.instance}\r\nX-Kloros-Profile: {upstream.profile}\r\n".encode()
            known[upstream.instance] = lines
        return lines


class OllamaRelay(Relay):
    """Says an answer in Ollama's shape: line by line, or whole at its end."""

    __slots__ = ("_lines", "_parts", "_shape")

    def __init__(self, means: Means, client: Client, order: Order, chosen: Selected, *, shape: AnswerShape) -> None:
        self._shape = shape
        self._lines: LineStream | None = None
        self._parts: list[bytes] = []
        super().__init__(means, client, order, chosen)

    @property
    def errors(self) -> ErrorWriter:
        """Write errors in this dialect."""
        return ollama.error_body

    def on_head(self, head: ResponseHead) -> None:
        self._head = head
        if head.status == 200 and self._order.is_stream:
            self._lines = LineStream(self._shape)
            self._client.send_head(200, NDJSON, None, extra=self._route_lines())

    def on_body(self, data: bytes, *, is_last: bool) -> None:
        if is_last:
            self._means.directory.finished(self._upstream, reached=True)
        if self._lines is None:
            self._parts.append(data)
            if is_last:
                self._reply_whole()
            return
        lines = self._lines.feed(data, now=self._means.now())
        if is_last and not self._lines.is_closed:
            problem = http_problems.stream_incomplete(self._upstream)
            lines += self._lines.fail(problem.detail, problem.code)
        if lines or is_last:
            self._client.send_body(lines, is_last=is_last)

    def _has_begun(self) -> bool:
        return self._lines is not None

    def _last_words(self, problem: Diagnostic) -> bytes:
        return b"" if self._lines is None else self._lines.fail(problem.detail, problem.code)

    def _reply_whole(self) -> None:
        head = self._head
        status = head.status if head is not None else 502
        answer = parse_object(b"".join(self._parts))
        if status == 200 and not isinstance(answer, Diagnostic):
            body = ollama_answers.whole_answer(answer, self._shape, now=self._means.now())
        elif status == 200:
            status = 502
            body = self.errors(502, (http_problems.not_http(self._upstream, "the answer is not JSON"),))
        else:
            said = "no message" if isinstance(answer, Diagnostic) else openai.error_message(answer)
            body = self.errors(status, (http_problems.upstream_refused(self._upstream, status, said),))
        extra = self._extra(head) if head is not None else b""
        self._client.reply(status, body, extra=extra)
