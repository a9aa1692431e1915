"""The endpoint that clients ask directly: a ROUTER socket on the event loop, beside the bus.

TCP or a Unix socket carries requests and replies without loss and without a proxy. A client is whoever has connected;
its identity is the first frame of its messages, and replies carry it back. REQ sockets put an empty frame in between.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import zmq

from kloros_infra.adapters.bus_address import require_loopback
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES

DRAINED_AT_ONCE = 100
"""After so many messages others get their turn on the loop."""
HIGH_WATER_MARK = 10_000
FAREWELL_MS = 500
HEARTBEAT_MS, SILENCE_MS = 10_000, 60_000
"""A client that stands still is cut after so much silence: long enough that whichever of the two stood still for a
while, as a suspended machine does, finds the other. A process that has ended is noticed at once."""
MOST_BYTES = 4 * MAX_PAYLOAD_BYTES
"""Who sends more than this is cut by libzmq; who sends more than is read can be told so."""
_IPC = "ipc://"
# Before a client's identity we note how it wants to be written to.
_DEALER, _REQ = b"d", b"r"
_MORE = zmq.SNDMORE | zmq.NOBLOCK


class DirectEndpoint:
    """Implements `daemon.ports.Direct`.

    libzmq's file descriptor says "something happened" once (zmq_getsockopt(3), ZMQ_FD is edge triggered), and sending
    takes such a signal as receiving does: so each wake-up drains the socket, and so does the loop after a send, unless
    it is being drained anyway.
    """

    def __init__(self, address: str) -> None:
        """Bind; raise ObstacleError for a taken address, ProblemsError for one that others could reach."""
        require_loopback(address)
        self._context = zmq.Context()
        self._socket = router = self._context.socket(zmq.ROUTER)
        self._hear: Callable[[bytes, bytes], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_looking = False
        router.set_hwm(HIGH_WATER_MARK)
        router.linger = FAREWELL_MS
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1),
            # A client that comes back under its old name is the same client (ZMQ_ROUTER_HANDOVER).
            (zmq.ROUTER_HANDOVER, 1),
            (zmq.MAXMSGSIZE, MOST_BYTES),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, SILENCE_MS),
            (zmq.HEARTBEAT_TTL, SILENCE_MS),
        ):
            router.setsockopt(option, value)
        try:
            router.bind(address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ObstacleError([_cannot_bind(address, error)]) from error
        self.address = str(router.getsockopt_string(zmq.LAST_ENDPOINT))
        self.malformed_count = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._drain)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
        # Time for the last replies to leave.
        self._context.destroy(linger=FAREWELL_MS)
        if self.address.startswith(_IPC):
            _remove(self.address.removeprefix(_IPC))

    def listen(self, hear: Callable[[bytes, bytes], None]) -> None:
        """Hand each message over as it comes: who sent it, and its payload."""
        self._hear = hear
        self._drain()

    def send(self, client: bytes, payload: bytes) -> bool:
        """Send without waiting; False where the client is gone, or has not read ten thousand messages."""
        if self._socket.closed:
            return False
        send = self._socket.send
        try:
            # Nobody of that name, or no room: the first frame says so, and then nothing is sent.
            send(client[1:], _MORE)
            if client[:1] == _REQ:
                send(b"", _MORE)
            send(payload, zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        finally:
            if not self._is_looking and self._loop is not None:
                self._is_looking = True
                self._loop.call_soon(self._drain)
        return True

    def _drain(self) -> None:
        if self._socket.closed or self._hear is None:
            return
        self._is_looking = True
        receive = self._socket.recv_multipart
        for _ in range(DRAINED_AT_ONCE):
            try:
                frames = receive(zmq.NOBLOCK)
            except zmq.Again:
                self._is_looking = False
                return
            self._take(frames, self._hear)
        if self._loop is not None:
            self._loop.call_soon(self._drain)

    def _take(self, frames: list[bytes], hear: Callable[[bytes, bytes], None]) -> None:
        if len(frames) == 2:
            hear(_DEALER + frames[0], frames[1])
        elif len(frames) == 3 and not frames[1]:
            hear(_REQ + frames[0], frames[2])
        else:
            self.malformed_count += 1


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _cannot_bind(address: str, error: zmq.ZMQError) -> Diagnostic:
    reason = os.strerror(error.errno or 0).lower()
    return Diagnostic(
        code="KI712",
        summary="Direct endpoint cannot be opened",
        detail=f"Binding {address}, where services ask the router itself, failed: {reason}.",
        hint="Stop what listens there, or give bus.direct another address; `bus.direct: off` does without.",
    )
