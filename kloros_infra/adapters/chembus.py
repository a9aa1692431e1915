"""ChemBus over ZeroMQ: KLoROS's proxy, a peer for the event loop, and a client that asks.

Publishers connect to the proxy's XSUB side, subscribers to its XPUB side. Delivery is at most once:
what must arrive is sent again by whoever wants the answer (see `ChemBusClient.ask`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import zmq

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError, ProblemsError, UnreachableError
from kloros_infra.ir.messages import LLM_ECOSYSTEM, REQUEST_TOPIC, RESPONSE_PREFIX, Envelope
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES, encode, facts_of, read_object

# KLoROS's own proxy and publishers use 1000 on every side.
HIGH_WATER_MARK = 1000
# CVE-2019-13132 and CVE-2020-15166 are fixed by then; MAXMSGSIZE cuts a peer cleanly.
OLDEST_LIBZMQ = (4, 3, 5)
# The older name first: both are set on a machine that is being moved from one to the other.
ADDRESS_FAMILIES = ("KLR_CHEM", "KLR_UMN")
DRAINED_AT_ONCE = 500
BACKLOG = 10_000
FAREWELL_MS = 500
FIRST_RESEND_S = 0.05
LAST_RESEND_S = 2.0


def bus_addresses(env: Mapping[str, str], default: RoutedBus) -> RoutedBus:
    """Let KLR_CHEM_XSUB/XPUB or KLR_UMN_XSUB/XPUB replace an address; raise ProblemsError if they disagree."""
    return RoutedBus(xsub=_address(env, "XSUB", default.xsub), xpub=_address(env, "XPUB", default.xpub))


def _address(env: Mapping[str, str], side: str, default: str) -> str:
    named = {name: env[name] for family in ADDRESS_FAMILIES if env.get(name := f"{family}_{side}")}
    if len(set(named.values())) > 1:
        raise ProblemsError([_families_disagree(named)])
    return next(iter(named.values()), default)


class BusProxy:
    """The proxy that joins XSUB and XPUB, running in libzmq on a thread of its own."""

    def __init__(self, xsub: str, xpub: str) -> None:
        """Bind both sides; raise ObstacleError for a taken port, ProblemsError for an unusable address."""
        _require_libzmq()
        for address in (xsub, xpub):
            require_loopback(address)
        self._context = zmq.Context()
        self._sockets = [self._context.socket(kind) for kind in (zmq.XSUB, zmq.XPUB)]
        self._sockets[1].setsockopt(zmq.XPUB_VERBOSE, 1)
        try:
            self.xsub, self.xpub = (_bound(*pair) for pair in zip(self._sockets, (xsub, xpub), strict=True))
        except ObstacleError:
            self._context.destroy(linger=0)
            raise
        self._thread = threading.Thread(target=self._forward, name="chembus-proxy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop forwarding and free the ports; closing twice is fine."""
        # Terminating the context is what makes zmq_proxy return (zmq_proxy(3), ETERM); the thread closes its sockets.
        self._context.term()
        self._thread.join()

    def _forward(self) -> None:
        frontend, backend = self._sockets
        with suppress(zmq.ContextTerminated):
            zmq.proxy(frontend, backend)
        for side in self._sockets:
            side.close(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_proxy(
    xsub: str, xpub: str, *, stop: threading.Event, on_bound: Callable[[str, str], None] | None = None
) -> None:
    """Run the proxy until `stop` is set; a signal handler may set it."""
    with BusProxy(xsub, xpub) as proxy:
        if on_bound:
            on_bound(proxy.xsub, proxy.xpub)
        stop.wait()


def _bound(side: zmq.Socket[bytes], address: str) -> str:
    side.set_hwm(HIGH_WATER_MARK)
    side.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)
    try:
        side.bind(address)
    except zmq.ZMQError as error:
        raise ObstacleError([_cannot_bind(address, error)]) from error
    return str(side.getsockopt_string(zmq.LAST_ENDPOINT))


def require_loopback(address: str) -> None:
    """Refuse an address that other machines could reach: ChemBus has no authentication."""
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return
    found = re.fullmatch(r"tcp://\[?([0-9a-fA-F.:]+)\]?:(\d{1,5}|\*)", address)
    try:
        is_loopback = found is not None and ipaddress.ip_address(found[1]).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ProblemsError([_not_loopback(address)])


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
        self._publisher.send_multipart((topic.encode(), payload), flags=zmq.NOBLOCK)

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
            topic, payload = frames
            self._arrived.append((topic.decode(), payload))
        except ValueError:
            # Not two frames, or a topic that is not UTF-8: KLoROS's receivers drop these too.
            self.malformed_count += 1
        else:
            self._has_arrived.set()


class ChemBusClient:
    """Asks the router; one standing subscription, so that no reply is lost to a late one.

    Ids have one length, because a subscription to `…-1` would also match `…-10`.
    """

    def __init__(self, addresses: RoutedBus, *, client_id: str | None = None) -> None:
        self._addresses = addresses
        self._client = client_id or secrets.token_hex(6)
        self._asked = 0
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        self._peer = BusPeer(self._addresses, [f"{RESPONSE_PREFIX}{self._client}-"])
        await self._peer.__aenter__()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        await self._peer.__aexit__(kind, error, trace)

    async def ask(
        self, prompt: str | list[dict[str, str]], *, timeout_s: float = 60.0, **wishes: Any
    ) -> dict[str, Any]:
        """Ask until answered and give the reply's facts; raise UnreachableError at the deadline.

        `wishes` are further keys of `llm.request`: purpose, model, persona, max_tokens, temperature,
        constraints, metadata. A reply may say `success: false`.
        """
        self._asked += 1
        request_id = f"{self._client}-{self._asked:08d}"
        facts = {"request_id": request_id, "prompt": prompt, **{k: v for k, v in wishes.items() if v is not None}}
        answer = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._resend_until(answer, facts)
        except TimeoutError:
            raise UnreachableError([_no_answer(self._addresses, timeout_s)]) from None
        finally:
            del self._waiting[request_id]

    async def _resend_until(self, answer: asyncio.Future[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
        """Send at once and again, ever less often: the router answers a repeated id once (Lazy Pirate)."""
        pause_s = FIRST_RESEND_S
        while not answer.done():
            self._send(facts)
            await asyncio.wait([answer], timeout=pause_s)
            pause_s = min(pause_s * 2, LAST_RESEND_S)
        return answer.result()

    def _send(self, facts: dict[str, Any]) -> None:
        envelope = Envelope(
            signal=REQUEST_TOPIC,
            ecosystem=LLM_ECOSYSTEM,
            facts=facts,
            incident_id=facts["request_id"],
            ts=time.time(),
        )
        self._peer.publish(REQUEST_TOPIC, encode(envelope))

    async def _read(self) -> None:
        while True:
            topic, payload = await self._peer.receive()
            answer = self._waiting.get(topic.removeprefix(RESPONSE_PREFIX))
            message = read_object(payload)
            if answer is not None and not answer.done() and message is not None:
                answer.set_result(dict(facts_of(message)))


def _is_listening(address: str) -> bool:
    """Say whether anyone accepts connections on a tcp address, to tell a missing bus from a missing router."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=0.2).close()
    except (OSError, ValueError):
        return False
    return True


def _families_disagree(named: Mapping[str, str]) -> Diagnostic:
    return Diagnostic(
        code="KI706",
        summary="Bus addresses disagree",
        detail=" and ".join(f"{name}={value}" for name, value in sorted(named.items())) + " name different places.",
        hint="Set both families of variables to the same address, or only one of them.",
    )


def _not_loopback(address: str) -> Diagnostic:
    return Diagnostic(
        code="KI702",
        summary="Bus address is not on loopback",
        detail=f"'{address}' is not an address such as tcp://127.0.0.1:5556. ChemBus has no authentication.",
        hint="Use a numeric loopback address with a port.",
    )


def _cannot_bind(address: str, error: zmq.ZMQError) -> Diagnostic:
    if error.errno == zmq.EADDRINUSE:
        detail = f"Another process already listens on {address}: perhaps a ChemBus proxy that is running."
        hint = "Stop it, or give bus.xsub and bus.xpub other ports. With KLoROS's own proxy set `bus.managed: false`."
        return Diagnostic(code="KI701", summary="Bus address is taken", detail=detail, hint=hint)
    return Diagnostic(
        code="KI703",
        summary="Bus address cannot be used",
        detail=f"Binding {address} failed: {os.strerror(error.errno or 0)}.",
        hint="Choose another address for bus.xsub and bus.xpub.",
    )


def _libzmq_too_old() -> Diagnostic:
    wanted = ".".join(str(part) for part in OLDEST_LIBZMQ)
    return Diagnostic(
        code="KI704",
        summary="libzmq is too old",
        detail=f"pyzmq runs on libzmq {zmq.zmq_version()}; older than {wanted} it has known holes.",
        hint="Install pyzmq from its wheel, which carries a current libzmq.",
    )


def _no_answer(addresses: RoutedBus, timeout_s: float) -> Diagnostic:
    if _is_listening(addresses.xsub):
        detail = f"The bus at {addresses.xsub} is up, but no router answered within {timeout_s:g} s."
        hint = "Look at the router's log, or start one with `kloros-infra router`; a cold model may need longer."
    else:
        detail = f"Nothing listens at {addresses.xsub}, so the question reached nobody within {timeout_s:g} s."
        hint = "Start the bus with `kloros-infra bus`, or check KLR_CHEM_XSUB and KLR_UMN_XSUB."
    return Diagnostic(code="KI705", summary="No answer on ChemBus", detail=detail, hint=hint)
