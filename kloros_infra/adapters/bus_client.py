"""Looking at ChemBus from a command: follow messages, publish one for certain, ask the proxy how it is."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import zmq
from pydantic import ValidationError

from kloros_infra.adapters.bus_address import is_listening, require_loopback
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.bus_status import BUS_STATUS_TOPIC, BusStatus
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES, facts_of, read_object

HIGH_WATER_MARK = 100_000
"""Who looks at everything reads in bursts."""
FAREWELL_MS = 500


@dataclass(frozen=True, slots=True)
class SeenMessage:
    """A message as it came: when, its topic, and the frames after the topic."""

    at_s: float
    topic: bytes
    payloads: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """Say how large it is without its topic."""
        return sum(map(len, self.payloads))


def follow(xpub: str, topics: Sequence[str]) -> Generator[SeenMessage, None, None]:
    """Give every message from now on whose topic begins with one of `topics`; all where there are none.

    Raises UnreachableError when nobody listens at the address. A proxy that restarts is joined again.
    """
    _require_bus(xpub)
    with _socket(zmq.SUB) as subscriber:
        for topic in topics or ("",):
            subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode())
        subscriber.connect(xpub)
        while True:
            topic_frame, *payloads = subscriber.recv_multipart()
            yield SeenMessage(time.time(), topic_frame, tuple(payloads))


def publish(bus: RoutedBus, topic: str, payload: bytes, *, timeout_s: float) -> None:
    """Publish one message and see it come back, so that it is certain that the proxy passed it on.

    A publisher's first messages are lost until the proxy has told it what is wanted. So we subscribe to the topic, then
    to one of our own that nobody else has, and send when our publisher has been told of that one.
    Raises UnreachableError.
    """
    _require_bus(bus.xsub, bus.xpub)
    deadline = time.monotonic() + timeout_s
    # libzmq sends what it is subscribed to in alphabetical order (trie.cpp, apply), and no text has this byte.
    marker = b"\xffbus.pub." + secrets.token_hex(8).encode()
    message = [topic.encode(), payload]
    with _socket(zmq.XPUB) as publisher, _socket(zmq.SUB) as subscriber:
        subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode())
        subscriber.setsockopt(zmq.SUBSCRIBE, marker)
        publisher.connect(bus.xsub)
        subscriber.connect(bus.xpub)
        is_known = _await(publisher, [b"\x01" + marker], deadline)
        if is_known:
            publisher.send_multipart(message)
        if not is_known or not _await(subscriber, message, deadline):
            raise UnreachableError([_not_carried(bus, timeout_s, is_known=is_known)])


def ask_status(xpub: str, *, timeout_s: float) -> BusStatus:
    """Ask the proxy how it is; raise UnreachableError when it does not say."""
    _require_bus(xpub)
    with _socket(zmq.SUB) as subscriber:
        subscriber.setsockopt(zmq.SUBSCRIBE, BUS_STATUS_TOPIC.encode())
        subscriber.connect(xpub)
        if not subscriber.poll(round(timeout_s * 1000)):
            raise UnreachableError([_no_status(xpub, timeout_s)])
        _, payload = subscriber.recv_multipart()
    try:
        return BusStatus.model_validate(facts_of(read_object(payload) or {}))
    except ValidationError as error:
        raise UnreachableError([_no_status(xpub, timeout_s)]) from error


def _await(side: zmq.Socket[bytes], wanted: list[bytes], deadline: float) -> bool:
    while (left_s := deadline - time.monotonic()) > 0:
        if side.poll(max(1, round(left_s * 1000))) and side.recv_multipart() == wanted:
            return True
    return False


@contextmanager
def _socket(kind: int) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    side = context.socket(kind)
    side.set_hwm(HIGH_WATER_MARK)
    side.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)
    try:
        yield side
    finally:
        context.destroy(linger=FAREWELL_MS)


def _require_bus(*addresses: str) -> None:
    for address in addresses:
        require_loopback(address)
        if not is_listening(address):
            raise UnreachableError([_no_bus(address)])


def _no_bus(address: str) -> Diagnostic:
    return Diagnostic(
        code="KI715",
        summary="No bus",
        detail=f"Nothing listens at {address}.",
        hint="Start the bus with `kloros-infra bus`, or say where it is with --xsub and --xpub.",
    )


def _no_status(address: str, timeout_s: float) -> Diagnostic:
    return Diagnostic(
        code="KI716",
        summary="The bus does not say how it is",
        detail=f"Something listens at {address}, but it did not answer within {timeout_s:g} s.",
        hint="Only our proxy answers: see that --xpub is the subscribers' side, and not of KLoROS's own proxy.",
    )


def _not_carried(bus: RoutedBus, timeout_s: float, *, is_known: bool) -> Diagnostic:
    if is_known:
        detail = f"The message was sent to {bus.xsub}, but did not come back from {bus.xpub} within {timeout_s:g} s."
    else:
        detail = f"Within {timeout_s:g} s the bus at {bus.xsub} did not say what {bus.xpub} is subscribed to."
    return Diagnostic(
        code="KI717",
        summary="The bus did not carry the message",
        detail=detail,
        hint="See that --xsub and --xpub are two sides of one proxy, and that it runs (`kloros-infra bus status`).",
    )
