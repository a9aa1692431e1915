"""Carry one client's request to a target and the answer back, in the client's dialect.

A relay waits in line at the desk. While nothing of an answer has reached the client another target may be asked
instead; from the first byte on the client gets the rest, or is told that it ends too early.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kloros_infra.daemon import http_problems, openai
from kloros_infra.daemon.continuing import Told
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.exchange import Exchange, ResponseHead
from kloros_infra.daemon.http_framing import EVENT_STREAM, JSON
from kloros_infra.daemon.json_body import dump
from kloros_infra.daemon.outcomes import is_loading, outcome_of, retry_after_s
from kloros_infra.daemon.ports import UpstreamError
from kloros_infra.daemon.refused import headers_of, status_of
from kloros_infra.daemon.request_problems import shutting_down
from kloros_infra.daemon.sse import DONE, error_event
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.routing import RoutedPersona
from kloros_infra.router.effects import Refuse, Send, Target
from kloros_infra.router.events import Asked, Ended, Outcome
from kloros_infra.router.persona import merge_persona

_GATEWAY_STATUS = {"KI820": 502, "KI821": 504, "KI822": 504, "KI828": 504, "KI874": 429}
# Of an answer that is not passed on at once, more than this is no message.
MOST_HELD_BYTES = 64 * 1024
LAST_BYTES = 2048
"""So much of an answer's end is looked at for how it ended."""
SLICE_BYTES = 64
RETRY_SOON = b"Retry-After: 1\r\n"


class Work(Protocol):
    """What a client waits for."""

    def cancel(self) -> None: ...
    def stop(self) -> None: ...
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
    """A checked request, ready for whichever target is chosen.

    `sent` are the client's own bytes: they are forwarded where nothing in the body changes.
    """

    path: bytes
    asked: Asked
    body: dict[str, Any]
    sent: bytes | None
    is_stream: bool

    def payload(self, target: Target, persona: RoutedPersona | None) -> bytes:
        """Give the bytes that go to a target."""
        if persona is None and target.asked_as is None and self.sent is not None:
            return self.sent
        body = self.body
        if persona is not None and "messages" in body:
            body = merge_persona(body, persona)
        if target.asked_as is not None:
            body = {**body, "model": target.asked_as}
        return self.sent if body is self.body and self.sent is not None else dump(body)


@dataclass(slots=True, eq=False)
class Means:
    """What relaying needs of the router."""

    desk: Desk
    upstreams: UpstreamPool
    now: Callable[[], float]
    route_lines: dict[tuple[str, str, int], bytes]
    """Response header lines by target, profile and attempt, written once."""


@dataclass(slots=True, eq=False)
class Held:
    """An answer that says that the target cannot serve now: it is passed on only if nobody else can either."""

    head: ResponseHead
    outcome: Outcome
    said: bytes = b""


class Relay:
    """Passes an answer on untouched (OpenAI's dialect is llama-server's own)."""

    # Defaults of the class: most requests change few of them.
    _exchange: Exchange | None = None
    _send: Send | None = None
    _head: ResponseHead | None = None
    _held: Held | None = None
    _told: Told | None = None
    _problem: Diagnostic | None = None
    _before = b""
    _tail = b""
    _has_begun = False
    _is_flowing = False
    """Whether pieces go straight to the client."""

    def __init__(self, means: Means, client: Client, order: Order) -> None:
        self._means = means
        self._client = client
        self._order = order
        client.wait_for(self)
        means.desk.ask(order.asked, self)

    @property
    def errors(self) -> ErrorWriter:
        """Write errors in this dialect."""
        return openai.error_body

    # The client's side.

    def cancel(self) -> None:
        """Stop: the client is gone."""
        if self._exchange is not None:
            self._exchange.cancel()
        self._means.desk.left(self._order.asked.id)

    def stop(self) -> None:
        """End, and say so: the router stops, and waits no longer."""
        self.cancel()
        self._problem = problem = shutting_down()
        if self._has_begun:
            self._end_early()
        else:
            self._client.reply(503, self.errors(503, (problem,)), extra=RETRY_SOON)

    def pause(self) -> None:
        """Wait for the client to read."""
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        """Go on."""
        if self._exchange is not None:
            self._exchange.resume()

    # The desk's side.

    def on_send(self, send: Send) -> None:
        """Ask a target; this may come again when one has failed."""
        self._send = send
        if send.attempt > 1:
            self._head = self._held = None
        order = self._order
        if send.can_continue and order.is_stream:
            self._told = Told()
        self._post(send, order.payload(send.target, send.persona))

    def on_continue(self, send: Send) -> None:
        """Ask a target to go on where the answer broke off."""
        told = self._told
        body = None if told is None else told.continued(self._order.body, send.persona, send.target.asked_as)
        if told is None or body is None:
            self._means.desk.left(self._order.asked.id)
            self._end_early()
            return
        self._send, self._held, self._is_flowing = send, None, False
        told.begin_anew()
        self._post(send, dump(body))

    def on_refused(self, refuse: Refuse) -> None:
        """Answer that nobody can serve it; what the last target said is worth more than that none is left."""
        if self._has_begun:
            self._end_early()
            return
        held, extra = self._held, headers_of(refuse) + self._route_lines()
        if held is not None and self._send is not None and self._send.target.is_local:
            self._reply_held(held, extra)
        elif self._problem is not None:
            status = _GATEWAY_STATUS.get(self._problem.code, 502)
            self._client.reply(status, self.errors(status, (self._problem,)), extra=extra)
        else:
            status = status_of(refuse)
            self._client.reply(status, self.errors(status, (refuse.problem,)), extra=extra)

    # The target's side.

    def on_head(self, head: ResponseHead) -> None:
        if head.status >= 400:
            outcome = outcome_of(head.status, is_local=self._target().is_local, body=self._order.body)
            if outcome is not Outcome.REFUSED or self._has_begun:
                self._held = Held(head, outcome)
                return
        if not self._has_begun:  # else it goes on where another broke off
            self._head = head
            self._open(head)

    def on_whole(self, content_type: bytes, body: bytes) -> None:
        if self._told is not None or content_type.startswith(EVENT_STREAM):
            self.on_head(ResponseHead(200, content_type, len(body), b""))
            self.on_body(body, is_last=True)
            return
        self._exchange = None
        self._means.desk.served(self._order.asked.id)
        self._client.reply(200, body, content_type=content_type, extra=self._route_lines())

    def on_body(self, data: bytes, *, is_last: bool) -> None:
        if self._is_flowing and not is_last and len(data) >= SLICE_BYTES:
            self._before = self._tail
            self._tail = data
            self._client.send_body(data, is_last=False)
        elif self._held is not None:
            self._hold(self._held, data, is_last=is_last)
        else:
            if self._told is not None:
                data = self._told.whole_events(data)
            if is_last:
                self._finish(data)
            elif data:
                self._pass(data)

    def on_failure(self, error: UpstreamError) -> None:
        self._exchange = None
        self._problem = self._with_reason(error.problem)
        self._fail(error.outcome, error.retry_after_s)

    def _post(self, send: Send, payload: bytes) -> None:
        upstreams = self._means.upstreams
        patience = upstreams.patience(send, is_stream=self._order.is_stream)
        exchange = upstreams.exchange(send.target, self._order.path, payload, self, patience=patience)
        if isinstance(exchange, UpstreamError):
            self.on_failure(exchange)
        else:
            self._exchange = exchange

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._means.desk.began(self._order.asked.id)

    # What a dialect does of its own.

    def _open(self, head: ResponseHead) -> None:
        """Begin an answer; nothing reaches the client before the first of the body."""
        self._client.send_head(head.status, head.content_type, head.length, extra=self._extra(head))

    def _pass(self, data: bytes) -> None:
        """Pass on a piece of the body."""
        self._begin()
        self._is_flowing = self._told is None
        self._remember(data)
        self._client.send_body(data, is_last=False)

    def _finish(self, data: bytes) -> None:
        """Pass on the end of an answer, if it is one."""
        last, head = self._last(data), self._head
        if head is not None and head.status < 400 and head.content_type.startswith(EVENT_STREAM) and not _is_end(last):
            if data:
                self._pass(data)
            self._problem = self._with_reason(http_problems.stream_incomplete(self._target()))
            self._fail(Outcome.BROKEN)
            return
        self._report(head)
        self._client.send_body(data, is_last=True)

    # Own steps.

    def _remember(self, data: bytes) -> None:
        """Keep what came last, which says how an answer ended; small pieces add up."""
        if len(data) < SLICE_BYTES:
            self._tail = (self._tail + data)[-LAST_BYTES:]
        else:
            self._before, self._tail = self._tail, data

    def _last(self, data: bytes) -> bytes:
        return self._before + self._tail + data if self._tail and len(data) < LAST_BYTES else data

    def _report(self, head: ResponseHead | None) -> None:
        """Tell of an answer that was passed on whole."""
        self._exchange = None
        if head is None or head.status < 400:
            self._means.desk.served(self._order.asked.id)
        else:
            self._means.desk.ended(Ended(self._order.asked.id, Outcome.REFUSED))

    def _hold(self, held: Held, data: bytes, *, is_last: bool) -> None:
        """Read what a target says that cannot serve, then see whether another can."""
        held.said += data[: MOST_HELD_BYTES - len(held.said)]
        if not is_last:
            return
        self._exchange = None
        desk, target = self._means.desk, self._target()
        self._problem = http_problems.upstream_refused(target, held.head.status, openai.message_in(held.said))
        outcome = held.outcome
        if is_loading(held.head.status, held.said):
            outcome = Outcome.LOADING
            desk.found_loading(target)
        self._fail(outcome, retry_after_s(held.head.retry_after, now=self._means.now()))

    def _fail(self, outcome: Outcome, wait_s: float | None = None) -> None:
        """Tell of an attempt that came to nothing; an answer that has begun goes on elsewhere, or ends here."""
        ended = Ended(self._order.asked.id, outcome, wait_s)
        if not self._means.desk.failed(ended, has_begun=self._has_begun):
            self._end_early()

    def _end_early(self) -> None:
        """End an answer that cannot be completed, and say so."""
        problem = self._problem or http_problems.answer_cut_off(self._target())
        self._client.cut(self._last_words(problem))

    def _last_words(self, problem: Diagnostic) -> bytes:
        if self._head is None or not self._head.content_type.startswith(EVENT_STREAM):
            return b""
        # What came last may be half an event: end it, so that the error is one of its own.
        separator = b"" if not self._tail or self._tail.endswith(b"\n\n") else b"\n\n"
        return separator + error_event(self.errors(502, (problem,)))

    def _reply_held(self, held: Held, extra: bytes) -> None:
        self._client.reply(held.head.status, held.said, content_type=held.head.content_type or JSON, extra=extra)

    def _with_reason(self, problem: Diagnostic) -> Diagnostic:
        target = self._target()
        return http_problems.with_reason(problem, target, self._means.desk.why_stopped(target))

    def _target(self) -> Target:
        if self._send is None:
            raise LookupError("nothing has been sent")
        return self._send.target

    def _extra(self, head: ResponseHead) -> bytes:
        lines = self._route_lines()
        return lines if not head.retry_after else lines + b"Retry-After: %b\r\n" % head.retry_after

    def _route_lines(self) -> bytes:
        send, means = self._send, self._means
        if send is None:
            return b""
        key = send.target.name, means.desk.profile, send.attempt
        lines = means.route_lines.get(key)
        if lines is None:
            name, profile, attempt = key
            about = {"X-Kloros-Instance": name, "X-Kloros-Profile": profile, "X-Kloros-Attempts": attempt}
            lines = "".join(f"{field}: {value}\r\n" for field, value in about.items()).encode()
            means.route_lines[key] = lines
        return lines


def _is_end(last: bytes) -> bool:
    """Say whether an event stream ends as it should: with its last event, or with an error of the target's own."""
    return DONE in last[-SLICE_BYTES:] or b'"error"' in last
