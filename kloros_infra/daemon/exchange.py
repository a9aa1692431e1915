"""One request to a target and its answer, on whichever connection carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.deadlines import NEVER
from kloros_infra.daemon.ports import UpstreamError
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Target
from kloros_infra.router.events import Outcome


class Carrier(Protocol):
    """The connection that carries an exchange (daemon.upstream_connection)."""

    loop: asyncio.AbstractEventLoop

    def begin(self, exchange: Exchange) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(slots=True, eq=False)
class ResponseHead:
    """An upstream's status and the headers that concern the client; no length means chunked."""

    status: int
    content_type: bytes
    length: int | None
    retry_after: bytes


class ResponseSink(Protocol):
    """Takes an answer: one head, then bodies of which one is the last; or a failure at any point.

    `on_whole` comes instead of both where all of an answer with status 200 has arrived at once.
    """

    def on_whole(self, content_type: bytes, body: bytes) -> None: ...
    def on_head(self, head: ResponseHead) -> None: ...
    def on_body(self, data: bytes, *, is_last: bool) -> None: ...
    def on_failure(self, error: UpstreamError) -> None: ...


class Patience(NamedTuple):
    """How long a target may be silent, before its first byte and between two, and when that begins to look odd."""

    first_byte_s: float
    idle_s: float
    doubt_s: float = NEVER


class ExchangeOwner(Protocol):
    """Whom an exchange tells what becomes of it."""

    def on_doubt(self, exchange: Exchange) -> None:
        """Take in that the target has been silent for a while; its deadline has not passed."""
        ...

    @property
    def on_over(self) -> Callable[[Exchange], None]:
        """Who takes in that the exchange has ended."""
        ...


class Exchange:
    """One request to a target and its answer, which goes to `sink`.

    `heard_at` is when something was heard of the target last, `deadline` when it is looked at again: later than that
    it may be silent, as nothing but `heard_at` is written for each piece of an answer.
    """

    __slots__ = (
        "_owner",
        "connection",
        "deadline",
        "has_started",
        "heard_at",
        "is_over",
        "patience",
        "request",
        "sink",
        "target",
    )

    def __init__(
        self, target: Target, request: bytes, sink: ResponseSink, patience: Patience, owner: ExchangeOwner
    ) -> None:
        self.target = target
        self.request = request
        self.sink = sink
        self.patience = patience
        self.connection: Carrier | None = None
        self.deadline = self.heard_at = NEVER
        self.has_started = False
        self.is_over = False
        self._owner = owner

    def send_on(self, connection: Carrier) -> None:
        """Send the request on a connection that is free."""
        self.connection = connection
        first_byte_s, _, doubt_s = self.patience
        self.heard_at = now = connection.loop.time()
        self.deadline = now + (doubt_s if doubt_s < first_byte_s else first_byte_s)
        connection.begin(self)

    def cancel(self) -> None:
        """Want no more of the answer: the connection is closed, so that llama-server frees the slot."""
        if not self.is_over:
            self._end()

    def pause(self) -> None:
        """Stop reading: whoever takes the answer is slower than the upstream."""
        if self.connection is not None:
            self.connection.pause()
            self.deadline = self.heard_at = NEVER

    def resume(self) -> None:
        """Read on."""
        if self.connection is not None:
            self.connection.resume()
            self.heard_at = now = self.connection.loop.time()
            self.deadline = now + min(self.patience.doubt_s, self.patience.first_byte_s)

    def expire(self, now: float) -> None:
        """Doubt a target that is silent, and give it up in the end."""
        patience = self.patience
        due_at = self.heard_at + (patience.idle_s if self.has_started else patience.first_byte_s)
        doubt_at = self.heard_at + patience.doubt_s
        if now < doubt_at and now < due_at:
            self.deadline = min(doubt_at, due_at)
        elif now < due_at:
            self.deadline = min(due_at, now + patience.doubt_s)
            self._owner.on_doubt(self)
        elif self.has_started:
            self.fail(http_problems.answer_stalled(self.target, self.patience.idle_s), Outcome.STALLED)
        else:
            self.fail(http_problems.no_first_byte(self.target, self.patience.first_byte_s), Outcome.SILENT)

    def put_off(self, lag_s: float, now: float) -> None:
        """Do not count the time in which nobody could hear the target; the next look sees whether it is silent."""
        self.heard_at = min(self.heard_at + lag_s, now)

    def give_up(self, now: float) -> None:
        """End before the deadline, because the target does not answer others either."""
        outcome = Outcome.STALLED if self.has_started else Outcome.SILENT
        self.fail(http_problems.not_alive(self.target, now - self.heard_at), outcome)

    def complete(self) -> None:
        """Note that the answer is whole; the connection is free again."""
        self.is_over = True
        self.connection = None
        self._owner.on_over(self)
        # It knows us as we know it: without this, every request would leave work to the garbage collector.
        del self.sink

    def fail(self, problem: Diagnostic, outcome: Outcome) -> None:
        """End without a whole answer."""
        if not self.is_over:
            self._end()
            self.sink.on_failure(UpstreamError(problem, outcome=outcome, started=self.has_started))

    def _end(self) -> None:
        self.is_over = True
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
        self._owner.on_over(self)
