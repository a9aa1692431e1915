"""The sockets of a client: one to the router itself, and two to the bus once that is wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import zmq

from kloros_infra.client.addresses import Addresses
from kloros_infra.client.conversation import Link, Out
from kloros_infra.client.messages import written

HIGH_WATER_MARK = 10_000
RECONNECT_MS, SLOWEST_RECONNECT_MS = 20, 500
FAREWELL_MS = 200


class Sockets:
    """Sends and receives without waiting; used by one thread."""

    def __init__(self, addresses: Addresses, *, client_id: str, prefix: str) -> None:
        self._addresses = addresses
        self._prefix = prefix
        self._context = zmq.Context()
        self.direct: zmq.Socket[bytes] | None = None
        self.subscriber: zmq.Socket[bytes] | None = None
        self._publisher: zmq.Socket[bytes] | None = None
        if addresses.direct is not None:
            self.direct = self._socket(zmq.DEALER)
            self.direct.setsockopt(zmq.IDENTITY, client_id.encode())
            # What cannot be sent now is sent again, to whoever is there then: it must not wait in a queue.
            self.direct.setsockopt(zmq.IMMEDIATE, 1)
            self.direct.connect(addresses.direct)

    def join_bus(self) -> bool:
        """Connect to the bus, unless that was done; say whether it was done now."""
        if self.subscriber is not None:
            return False
        self._publisher = self._socket(zmq.PUB)
        self.subscriber = self._socket(zmq.SUB)
        self.subscriber.setsockopt(zmq.SUBSCRIBE, self._prefix.encode())
        self._publisher.connect(self._addresses.xsub)
        self.subscriber.connect(self._addresses.xpub)
        return True

    def send(self, out: Out) -> bool:
        """Send; False where nobody is connected."""
        payload = written(out.topic, out.request_id, out.facts, ts=time.time())
        try:
            if out.link is Link.DIRECT and self.direct is not None:
                self.direct.send(payload, zmq.NOBLOCK)
            elif self._publisher is not None:
                self._publisher.send_multipart((out.topic.encode(), payload), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def received(self) -> Iterator[tuple[Link, bytes]]:
        """Give what has come."""
        for link, side in ((Link.DIRECT, self.direct), (Link.BUS, self.subscriber)):
            while side is not None:
                try:
                    frames = side.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                yield link, frames[-1]

    def close(self) -> None:
        """Close; what was sent last still leaves where somebody takes it."""
        self._context.destroy(linger=FAREWELL_MS)

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.linger = FAREWELL_MS
        made.set_hwm(HIGH_WATER_MARK)
        made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        made.setsockopt(zmq.RECONNECT_IVL_MAX, SLOWEST_RECONNECT_MS)
        return made
