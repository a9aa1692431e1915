"""One client's connection: requests in, answers out in order, deadlines, back-pressure, clean ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from kloros_infra.daemon.bridge import error_writer
from kloros_infra.daemon.deadlines import NEVER, DeadlineWatch
from kloros_infra.daemon.http_framing import (
    BETWEEN,
    CONTINUE,
    JSON,
    LAST_CHUNK,
    HttpLimits,
    Phase,
    Refusal,
    Request,
    RequestReader,
    ResponseHeads,
    chunk,
)
from kloros_infra.daemon.relay import Client, Work

CLOSE = b"Connection: close\r\n"
# A client that is still sending gets a reset, and may lose our answer, if we close before it is done.
LINGER_S = 2.0


class Answers(Protocol):
    """Answers requests that are framed (daemon.bridge.Bridge, daemon.control.Control)."""

    def answer(self, request: Request, client: Client) -> None:
        """Answer one request through its client, now or later."""
        ...


class House(Protocol):
    """The server that a connection belongs to."""

    limits: HttpLimits
    heads: ResponseHeads
    watch: DeadlineWatch[ClientConnection]
    now: Callable[[], float]
    is_draining: bool

    @property
    def bridge(self) -> Answers: ...
    def arrived(self, connection: ClientConnection) -> None: ...
    def left(self, connection: ClientConnection) -> None: ...


class ClientConnection(asyncio.Protocol):
    """Implements `daemon.relay.Client` for the request that is being answered."""

    def __init__(self, house: House) -> None:
        self.deadline = NEVER
        self._house = house
        self._answer: Callable[[Request, Client], None] = house.bridge.answer
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(house.limits)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._work: Work | None = None
        self._timed_phase: Phase | None = None
        self._unsent = b""
        self._is_chunked = False
        self._is_advancing = False
        self._is_lingering = False
        self._is_stalled = False
        self._is_reading = True

    # Called by the server.

    def drain(self) -> None:
        """End after the answer that is under way, at once if there is none."""
        if self._request is None and self._reader.phase is BETWEEN:
            self._close()

    def stop(self) -> None:
        """End what is being answered, and say so to the client."""
        work = self._work
        if work is not None:
            work.stop()
        self._close()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self, _now: float) -> None:
        """Act on a client that is too slow, or idle for too long."""
        if self._is_lingering or self._is_stalled:
            self.abort()
        elif self._reader.phase is BETWEEN:
            self._close()
        else:
            self._reader.refuse_slow()
            self._advance()

    def put_off(self, lag_s: float, _now: float) -> None:
        """Do not count the time in which nobody could read what the client sent."""
        self.deadline += lag_s

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's signature is wider than what a TCP connection gives; uvloop's type is no subclass.
        self._transport = cast("asyncio.Transport", transport)
        self.deadline = self._loop.time() + self._house.limits.head_timeout_s
        self._timed_phase = BETWEEN
        self._house.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        reader, transport = self._reader, self._transport
        if self._request is None and not self._is_stalled and transport is not None and not transport.is_closing():
            # Nothing waits that came before it.
            request = reader.whole(data)
            if request is not None:
                self._request = request
                self.deadline = NEVER
                self._answer(request, self)
                return
        reader.feed(data)
        if self._request is None:
            if reader.wants_continue and not reader.arrivals:
                reader.wants_continue = False
                self._write(CONTINUE)
            self._advance()
        self._bound_pipeline()
        self._set_deadline()

    def eof_received(self) -> bool:
        """Take the end of what the client sends for its leaving, as nginx does: nothing is answered any more."""
        self._drop_work()
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._drop_work()
        self._transport = None
        self._house.left(self)

    def pause_writing(self) -> None:
        """Have the upstream wait for a client that does not read as fast as it is sent to."""
        self._is_stalled = True
        self.deadline = self._loop.time() + self._house.limits.stalled_reader_timeout_s
        if self._work is not None:
            self._work.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_stalled = False
        self._timed_phase = None
        if self._work is not None:
            self._work.resume()
        self._advance()
        self._set_deadline()

    # Called by whoever answers.

    def wait_for(self, work: Work) -> None:
        """Remember what to cancel if the client leaves."""
        self._work = work

    def reply(self, status: int, body: bytes, *, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """Send a whole answer."""
        request, house, transport = self._request, self._house, self._transport
        if request is None or transport is None:
            return
        if request.origin or house.is_draining or not request.is_persistent:
            extra += self._own_lines(request)
        head = house.heads.head(status, content_type, len(body), now=house.now(), extra=extra)
        transport.write(head if request.method == "HEAD" else head + body)
        self._finish()

    def send_head(self, status: int, content_type: bytes, length: int | None, *, extra: bytes = b"") -> None:
        """Begin an answer; the head goes out with the first of the body."""
        request, house = self._request, self._house
        if request is None:
            return
        extra += self._own_lines(request)
        self._is_chunked = length is None
        self._unsent = house.heads.head(status, content_type, length, now=house.now(), extra=extra)

    def send_body(self, data: bytes, *, is_last: bool) -> None:
        """Send a piece of the body."""
        if self._is_chunked:
            data = chunk(data) + LAST_CHUNK if is_last else chunk(data)
        if self._unsent:
            data, self._unsent = self._unsent + data, b""
        if data and self._transport is not None:
            self._transport.write(data)
        if is_last:
            self._finish()

    def cut(self, last_words: bytes) -> None:
        """End an answer that cannot be completed, so that the client cannot take it for whole."""
        head, self._unsent = self._unsent, b""
        self._write(head + (chunk(last_words) if self._is_chunked else b""))
        self._request = self._work = None
        self._close()

    # Own steps.

    def _own_lines(self, request: Request) -> bytes:
        """Write the lines of a head that depend on who asks; after a drained answer the connection ends."""
        lines = b""
        if request.origin:
            lines = b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % request.origin
        if not request.is_persistent or self._house.is_draining:
            request.is_persistent = False
            lines += CLOSE
        return lines

    def _advance(self) -> None:
        """Answer what has arrived, one at a time and in order."""
        if self._is_advancing:
            return
        self._is_advancing = True
        arrivals = self._reader.arrivals
        try:
            while arrivals and self._may_answer():
                arrival = arrivals.popleft()
                if isinstance(arrival, Refusal):
                    self._refuse(arrival)
                else:
                    self._request = arrival
                    self.deadline = NEVER
                    self._answer(arrival, self)
        finally:
            self._is_advancing = False

    def _may_answer(self) -> bool:
        transport = self._transport
        is_open = transport is not None and not transport.is_closing()
        return is_open and self._request is None and not self._is_lingering and not self._is_stalled

    def _finish(self) -> None:
        request, self._request, self._work = self._request, None, None
        self._timed_phase = None
        if request is None or not request.is_persistent or self._house.is_draining:
            self._close()
        elif not self._is_advancing:
            reader = self._reader
            if reader.phase is BETWEEN and self._is_reading and not reader.arrivals and not self._is_stalled:
                self._timed_phase = BETWEEN
                self.deadline = self._loop.time() + self._house.limits.idle_timeout_s
                return
            if reader.arrivals or not self._is_reading:
                self._advance()
                self._bound_pipeline()
            self._set_deadline()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and end, but let the client finish sending first."""
        body = error_writer(refusal.path)(refusal.status, (refusal.problem,))
        head = self._house.heads.head(refusal.status, JSON, len(body), now=self._house.now(), extra=CLOSE)
        self._write(head + body)
        self._is_lingering = True
        self.deadline = self._loop.time() + LINGER_S
        if self._transport is not None and not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def _set_deadline(self) -> None:
        """Start the clock of the phase that the client is in, if it is new."""
        phase = self._reader.phase
        if phase is self._timed_phase or self._request is not None or self._is_lingering or self._is_stalled:
            return
        self._timed_phase = phase
        self.deadline = self._loop.time() + self._house.limits.allowed_s(phase)

    def _bound_pipeline(self) -> None:
        """Read no further while too much waits; a client that leaves is then noticed later."""
        should_read = len(self._reader.arrivals) < self._house.limits.pipelined
        transport = self._transport
        if should_read is self._is_reading or transport is None or transport.is_closing():
            return
        self._is_reading = should_read
        if should_read:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _drop_work(self) -> None:
        self._request = None
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
