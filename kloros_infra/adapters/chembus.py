"""ChemBus over ZeroMQ: a peer for the event loop.

Publishers connect to the proxy's XSUB side, subscribers to its XPUB side. Delivery is at most once:
what must arrive is sent again by whoever wants the answer (see `kloros_infra.client`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

import zmq

from kloros_infra.adapters.bus_address import require_loopback
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES

# CVE-2019-13132 and CVE-2020-15166 are fixed by then; MAXMSGSIZE cuts a peer cleanly.
OLDEST_LIBZMQ = (4, 3, 5)
DRAINED_AT_ONCE = 100
"""After so many messages others get their turn on the loop."""
BACKLOG = 10_000
FAREWELL_MS = 500


def _require_libzmq() -> None:
    if zmq.zmq_version_info() < OLDEST_LIBZMQ:
        raise ObstacleError([_libzmq_too_old()])


class BusPeer:
    """A publisher and a subscriber on the running event loop.

    libzmq's file descriptor says "something happened" once (zmq_getsockopt(3), ZMQ_FD is edge
    triggered), so each wake-up drains the socket: twice the throughput of one future per message.
    """

    def __init__(self, addresses: RoutedBus, topics: Iterable[str], *, backlog: int = BACKLOG) -> None:
        """Connect both sides and subscribe; the proxy may come up later or restart.

        `backlog` messages wait here; more wait in libzmq, and what that cannot hold is lost.
        """
        _require_libzmq()
        for address in (addresses.xsub, addresses.xpub):
            require_loopback(address)
        self._backlog = backlog
        self._context = zmq.Context()
        self._publisher = self._context.socket(zmq.PUB)
        self._subscriber = self._context.socket(zmq.SUB)
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._has_arrived = asyncio.Event()
        self._hear: Callable[[str, bytes], None] | None = None
        self.malformed_count = 0
        for side in (self._publisher, self._subscriber):
            side.linger = 0
            side.set_hwm(BACKLOG)
            side.setsockopt(zmq.RECONNECT_IVL, 50)
            side.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)
        for topic in topics:
            self._subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._publisher.connect(addresses.xsub)
        self._subscriber.connect(addresses.xpub)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._subscriber.fileno(), self._drain)
        self._drain()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.remove_reader(self._subscriber.fileno())
        # Time for the last replies to leave; without a proxy there is nothing to wait for.
        self._context.destroy(linger=FAREWELL_MS)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send without waiting; what no subscriber takes is lost."""
        self._publisher.send(topic.encode(), zmq.SNDMORE | zmq.NOBLOCK)
        self._publisher.send(payload, zmq.NOBLOCK)

    def listen(self, hear: Callable[[str, bytes], None]) -> None:
        """Hand each message over as it comes, from here on; what waits already goes first."""
        self._hear = hear
        while self._arrived:
            hear(*self._arrived.popleft())

    async def receive(self) -> tuple[str, bytes]:
        """Wait for the next message of two frames: topic and payload."""
        while not self._arrived:
            self._has_arrived.clear()
            await self._has_arrived.wait()
        message = self._arrived.popleft()
        if len(self._arrived) == self._backlog - 1:
            self._drain()
        return message

    def _drain(self) -> None:
        if self._subscriber.closed:
            return
        for _ in range(DRAINED_AT_ONCE):
            if len(self._arrived) >= self._backlog:
                return
            try:
                frames = self._subscriber.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(frames)
        self._loop.call_soon(self._drain)

    def _take(self, frames: list[bytes]) -> None:
        try:
            name, payload = frames
            topic = name.decode()
        except ValueError:
            # Not two frames, or a topic that is not UTF-8: KLoROS's receivers drop these too.
            self.malformed_count += 1
            return
        if self._hear is not None:
            self._hear(topic, payload)
        else:
            self._arrived.append((topic, payload))
            self._has_arrived.set()


def _libzmq_too_old() -> Diagnostic:
    wanted = ".".join(str(part) for part in OLDEST_LIBZMQ)
    return Diagnostic(
        code="KI704",
        summary="libzmq is too old",
        detail=f"pyzmq runs on libzmq {zmq.zmq_version()}; older than {wanted} it has known holes.",
        hint="Install pyzmq from its wheel, which carries a current libzmq.",
    )
