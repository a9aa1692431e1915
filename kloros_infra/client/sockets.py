"""The sockets of a client: one to the router itself, and two to the bus once that is wanted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import zmq

from kloros_infra.client.addresses import Addresses
from kloros_infra.client.conversation import Link, Out
from kloros_infra.client.messages import written

HIGH_WATER_MARK = 10_000
RECONNECT_MS, SLOWEST_RECONNECT_MS = 20, 500
FAREWELL_MS = 200
SPARE_FILES = 16
"""More than a context and its sockets open."""


class Sockets:
    """Sends and receives without waiting; used by one thread.

    Making it, and joining the bus, raise zmq.ZMQError or OSError where the system gives no socket.
    """

    def __init__(self, addresses: Addresses, *, client_id: str, prefix: str) -> None:
        self._addresses = addresses
        self._prefix = prefix
        _require_files()
        self._context = zmq.Context()
        self.direct: zmq.Socket[bytes] | None = None
        self.subscriber: zmq.Socket[bytes] | None = None
        self._publisher: zmq.Socket[bytes] | None = None
        if addresses.direct is not None:
            try:
                self.direct = self._connected(addresses.direct, client_id)
            except zmq.ZMQError:
                self._context.destroy(linger=0)
                raise

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

    def _connected(self, address: str, client_id: str) -> zmq.Socket[bytes]:
        direct = self._socket(zmq.DEALER)
        direct.setsockopt(zmq.IDENTITY, client_id.encode())
        # What cannot be sent now is sent again, to whoever is there then: it must not wait in a queue.
        direct.setsockopt(zmq.IMMEDIATE, 1)
        direct.connect(address)
        return direct

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.linger = FAREWELL_MS
        made.set_hwm(HIGH_WATER_MARK)
        made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        made.setsockopt(zmq.RECONNECT_IVL_MAX, SLOWEST_RECONNECT_MS)
        return made


def _require_files() -> None:
    """Raise OSError where the process may open no more: libzmq would abort it (epoll.cpp asserts its descriptor)."""
    opened: list[int] = []
    try:
        while len(opened) < SPARE_FILES:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for file in opened:
            os.close(file)
