"""The ChemBus proxy: publishers on one side, subscribers on the other, in one thread without libzmq.

It speaks ZMTP itself (see docs/decisions): libzmq stores every subscription before anybody could refuse it, and has no
limit on the frames of a message, so no proxy built on it has bounded memory.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Self

from kloros_infra.adapters.bus_address import listen, stop_listening
from kloros_infra.adapters.bus_board import Board, Subscriptions
from kloros_infra.adapters.bus_connection import REST_S, BusLimits, Connection, Held, Shared
from kloros_infra.adapters.bus_peers import Publisher, Subscriber
from kloros_infra.adapters.bus_report import status_of
from kloros_infra.adapters.zmtp import ProtocolError
from kloros_infra.ir.bus_status import BUS_STATUS_TOPIC
from kloros_infra.ir.messages import HEALTH_TOPIC

# The router says how it is every 30 s; three times missed, what it said last is no news any more.
KEPT_S = {HEALTH_TOPIC: 90.0, "llm.gpu_profile": 86_400.0}
EVENTS_AT_ONCE = 32
"""Before anything is sent on, so many connections are read from at the most."""
SWEEP_S = 1.0
STATUS_EVERY_S = 0.1
MOST_WAITING_LINES = 10_000
PRINTED_WITHIN_S = 0.1


class BusProxy:
    """A proxy on a thread of its own."""

    def __init__(
        self,
        xsub: str,
        xpub: str,
        *,
        limits: BusLimits | None = None,
        on_line: Callable[[str], None] | None = None,
        ended: threading.Event | None = None,
    ) -> None:
        """Listen on both sides; raise ObstacleError for a taken port, ProblemsError for an unusable address.

        `on_line` is told of connections, disconnections and drops, and must not block. `ended` is set when the thread
        ends, whatever the reason.
        """
        self.limits = limits or BusLimits()
        self._say = on_line or _unsaid
        self._ended = ended or threading.Event()
        self._fault: BaseException | None = None
        self._open(xsub, xpub)
        self._poller = select.epoll()
        self._wake, self._woken = socket.socketpair()
        for one in (*self._listening, self._woken):
            self._poller.register(one.fileno(), select.EPOLLIN)
        self._shut: list[socket.socket] = []
        self.connections: dict[int, Connection] = {}
        self.connections_refused = self.peers_cut = 0
        self.started_s = self._swept_s = time.monotonic()
        self._status_s, self._status_payload = -STATUS_EVERY_S, b""
        subscriptions = Subscriptions(self.limits.subscriptions_each, self.limits.subscriptions)
        self.board = Board(subscriptions, KEPT_S, BUS_STATUS_TOPIC)
        self._shared = self._share()
        self._thread = threading.Thread(target=self._run, name="chembus-proxy", daemon=True)
        self._thread.start()

    def _share(self) -> Shared:
        return Shared(
            board=self.board,
            limits=self.limits,
            held=Held(self.limits.held_bytes),
            poller=self._poller,
            clock=time.monotonic,
            say=self._say,
            status=self._status,
            status_topic=BUS_STATUS_TOPIC.encode(),
        )

    def _open(self, xsub: str, xpub: str) -> None:
        publishers, self.xsub = listen(xsub)
        try:
            subscribers, self.xpub = listen(xpub)
        except Exception:
            stop_listening(publishers, self.xsub)
            raise
        self._listening: dict[socket.socket, type[Connection]] = {publishers: Publisher, subscribers: Subscriber}

    def close(self) -> None:
        """Stop forwarding and free the ports; closing twice is fine. Raises the fault that ended the thread."""
        with suppress(OSError):
            self._wake.send(b"x")
        self._thread.join()
        self._wake.close()
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as fault:  # handed to whoever closes the proxy
            self._fault = fault
        finally:
            self._tidy()
            self._ended.set()

    def _status(self) -> bytes:
        """Say how we are; not more often than it changes for a reader, whoever asks how often."""
        now = time.monotonic()
        if now - self._status_s > STATUS_EVERY_S:
            self._status_s = now
            self._status_payload = status_of(self, self._shared.held.now_bytes)
        return self._status_payload

    def _tidy(self) -> None:
        for connection in self.connections.values():
            connection.leave()
        for one, address in zip(self._listening, (self.xsub, self.xpub), strict=True):
            stop_listening(one, address)
        self._woken.close()
        self._poller.close()

    def _serve(self) -> None:
        doors = {one.fileno(): one for one in self._listening}
        woken, connections = self._woken.fileno(), self.connections
        unsent, resting = self._shared.unsent, self._shared.resting
        while True:
            for fd, events in self._poller.poll(self._patience_s(), EVENTS_AT_ONCE):
                connection = connections.get(fd)
                if connection is not None:
                    self._attend(connection, events)
                elif fd in doors:
                    self._accept(doors[fd])
                elif fd == woken:
                    return
            while unsent:
                self._flush(unsent.pop())
            now = time.monotonic()
            while resting and resting[0].rests_until_s <= now:
                resting.popleft().hear_again()
            if now - self._swept_s >= SWEEP_S:
                self._sweep()

    def _patience_s(self) -> float | None:
        """Look again by ourselves only where something is to be done then."""
        if self._shared.resting:
            return REST_S
        return SWEEP_S if self._shared.restless or self._shut else None

    def _accept(self, door: socket.socket) -> None:
        try:
            connected, found = door.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # It would be told again at once, and for ever: listen again when there may be a descriptor.
                self._shut.append(door)
                self._poller.modify(door.fileno(), 0)
            return
        if len(self.connections) >= self.limits.connections:
            self.connections_refused += 1
            connected.close()
            return
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._listening[door](connected, _address_of(connected, found), self._shared)
        self.connections[connected.fileno()] = connection
        self._poller.register(connected.fileno(), select.EPOLLIN)

    def _attend(self, connection: Connection, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                connection.flush()
            if events & ~select.EPOLLOUT and not connection.on_readable():
                self._drop(connection, "it left")
        except ProtocolError as error:
            self.peers_cut += 1
            self._drop(connection, str(error))
        except OSError as error:
            self._drop(connection, os.strerror(error.errno or 0))

    def _flush(self, connection: Connection) -> None:
        if connection.is_closed:
            return
        try:
            connection.flush()
        except OSError as error:
            self._drop(connection, os.strerror(error.errno or 0))

    def _drop(self, connection: Connection, reason: str) -> None:
        fd = connection.socket.fileno()
        self._poller.unregister(fd)
        del self.connections[fd]
        was_joined = connection.is_joined
        connection.report()
        connection.leave()
        self._say(f"{'disconnected' if was_joined else 'refused'}: {connection}: {reason}")

    def _sweep(self) -> None:
        now = self._swept_s = time.monotonic()
        while self._shut:
            self._poller.modify(self._shut.pop().fileno(), select.EPOLLIN)
        for connection in tuple(self._shared.restless):
            connection.report()
            if not connection.is_joined and now - connection.since_s > self.limits.handshake_s:
                self.peers_cut += 1
                self._drop(connection, "it never said what it is")


def run_proxy(
    xsub: str,
    xpub: str,
    *,
    stop: threading.Event,
    on_bound: Callable[[str, str], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run the proxy until `stop` is set; a signal handler may set it.

    `on_line` is told of connections, disconnections and drops on this thread: it may block, and holds nothing up.
    """
    lines: SimpleQueue[str] = SimpleQueue()

    def remember(line: str) -> None:
        if lines.qsize() < MOST_WAITING_LINES:
            lines.put(line)

    with BusProxy(xsub, xpub, on_line=remember if on_line else None, ended=stop) as proxy:
        if on_bound:
            on_bound(proxy.xsub, proxy.xpub)
        if on_line is None:
            stop.wait()
        while on_line and not stop.is_set():
            with suppress(Empty):
                on_line(lines.get(timeout=PRINTED_WITHIN_S))


def _address_of(connected: socket.socket, found: object) -> str:
    if connected.family == socket.AF_UNIX:
        # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED).
        pid = int.from_bytes(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        return f"pid {pid}"
    assert isinstance(found, tuple)  # noqa: S101 - for mypy: what accept() gives for an IP socket
    return f"{found[0]}:{found[1]}"


def _unsaid(_line: str) -> None:
    """Say nothing."""
