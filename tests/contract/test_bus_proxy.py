"""The proxy against real ZeroMQ sockets, and against peers that misbehave on raw ones."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from kloros_infra.adapters.bus_address import connect
from kloros_infra.adapters.bus_connection import BusLimits
from kloros_infra.adapters.bus_proxy import BusProxy, run_proxy
from kloros_infra.adapters.zmtp import GREETING, frame, message, ready
from kloros_infra.errors import ObstacleError
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES
from tests.fakes.router import a_proxy

ANY = "tcp://127.0.0.1:*"
DEADLINE_S = 20.0
Side = zmq.Socket[bytes]


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


class Peers:
    """Real ZeroMQ sockets, joined to a proxy."""

    def __init__(self, xsub: str, xpub: str) -> None:
        self.context: zmq.Context[Side] = zmq.Context()
        self.xsub, self.xpub = xsub, xpub
        self.sides: list[Side] = []

    def socket(self, kind: int) -> Side:
        side = self.context.socket(kind)
        side.rcvtimeo = int(DEADLINE_S * 1000)
        self.sides.append(side)  # a socket that nobody holds is closed
        return side

    def subscriber(self, *topics: bytes, kind: int = zmq.SUB) -> Side:
        side = self.socket(kind)
        side.connect(self.xpub)
        for topic in topics:
            self.subscribe(side, topic)
        return side

    @staticmethod
    def subscribe(side: Side, topic: bytes) -> None:
        side.setsockopt(zmq.SUBSCRIBE, topic)

    def publisher(self) -> Side:
        """Give one whose messages arrive: it knows that everything is wanted."""
        side = self.socket(zmq.XPUB)
        side.connect(self.xsub)
        while side.recv() != b"\x01":
            pass
        return side

    def close(self) -> None:
        self.context.destroy(linger=0)


@contextmanager
def peers_on(xsub: str, xpub: str) -> Iterator[Peers]:
    peers = Peers(xsub, xpub)
    try:
        yield peers
    finally:
        peers.close()


@contextmanager
def a_bus(
    limits: BusLimits | None = None, on_line: Callable[[str], None] | None = None
) -> Iterator[tuple[BusProxy, Peers]]:
    with BusProxy(ANY, ANY, limits=limits, on_line=on_line) as proxy, peers_on(proxy.xsub, proxy.xpub) as peers:
        yield proxy, peers


@pytest.fixture
def bus() -> Iterator[tuple[BusProxy, Peers]]:
    with a_bus() as both:
        yield both


def knows(proxy: BusProxy, *prefixes: bytes) -> None:
    until(lambda: set(prefixes) <= set(proxy.board.subscriptions.prefixes()), f"subscription to {prefixes}")


def raw_publisher(proxy: BusProxy) -> socket.socket:
    side = connect(proxy.xsub, timeout_s=DEADLINE_S)
    side.sendall(GREETING + ready(b"PUB"))
    return side


def raw_subscriber(proxy: BusProxy, *topics: bytes) -> socket.socket:
    side = connect(proxy.xpub, timeout_s=DEADLINE_S)
    side.sendall(GREETING + ready(b"SUB") + b"".join(message(b"\x01" + topic) for topic in topics))
    return side


def status(peers: Peers) -> dict[str, Any]:
    side = peers.subscriber(b"bus.status")
    topic, payload = side.recv_multipart()
    side.close(linger=0)
    envelope = json.loads(payload)
    assert topic.decode() == envelope["signal"] == "bus.status"
    facts: dict[str, Any] = envelope["facts"]
    return facts


@pytest.mark.parametrize(
    "frames",
    [
        [b"topic", b'{"signal":"topic"}'],
        [b"topic"],
        [b"topic", b"", b""],
        [b"topic", b"x" * 255, b"y" * 256],
        [b"topic", *[b"x"] * 1000],
        [b"topic" + b"z" * 600, b"x"],
        [b"topic", b"x" * MAX_PAYLOAD_BYTES],
    ],
    ids=lambda frames: f"{len(frames)} frames, {sum(map(len, frames))} bytes",
)
def test_messages_pass_untouched(bus: tuple[BusProxy, Peers], frames: list[bytes]) -> None:
    proxy, peers = bus
    subscriber = peers.subscriber(b"topic")
    knows(proxy, b"topic")
    peers.publisher().send_multipart(frames)
    assert subscriber.recv_multipart() == frames


def test_a_plain_publisher_is_asked_for_everything(bus: tuple[BusProxy, Peers]) -> None:
    proxy, peers = bus
    publisher = peers.socket(zmq.PUB)
    publisher.connect(peers.xsub)
    early = peers.subscriber(b"early")
    while not early.poll(10):
        publisher.send_multipart([b"early", b"{}"])
    late = peers.subscriber(b"late")
    knows(proxy, b"late")
    publisher.send_multipart([b"late", b"{}"])  # at once: it need not be told of the new subscriber
    assert late.recv_multipart() == [b"late", b"{}"]


def test_a_subscription_is_a_prefix_and_two_that_match_give_one_message(bus: tuple[BusProxy, Peers]) -> None:
    proxy, peers = bus
    subscriber = peers.subscriber(b"llm.", b"llm.request")
    knows(proxy, b"llm.", b"llm.request")
    publisher = peers.publisher()
    for topic in (b"llm.request.x", b"HEARTBEAT", b"llm.health"):
        publisher.send_multipart([topic, b"{}"])
    assert [subscriber.recv_multipart()[0] for _ in range(2)] == [b"llm.request.x", b"llm.health"]
    subscriber.setsockopt(zmq.UNSUBSCRIBE, b"llm.")
    until(lambda: proxy.board.subscriptions.count == 1, "the cancellation")
    publisher.send_multipart([b"llm.health", b"{}"])
    publisher.send_multipart([b"llm.request", b"{}"])
    assert subscriber.recv_multipart()[0] == b"llm.request"


def test_a_publisher_that_asks_sees_each_subscription_and_when_nobody_has_it(bus: tuple[BusProxy, Peers]) -> None:
    proxy, peers = bus
    one = peers.subscriber(b"a")
    knows(proxy, b"a")
    publisher = peers.socket(zmq.XPUB)
    publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
    publisher.connect(peers.xsub)
    assert {publisher.recv(), publisher.recv()} == {b"\x01", b"\x01a"}
    other = peers.subscriber(b"a")
    assert publisher.recv() == b"\x01a"
    one.setsockopt(zmq.UNSUBSCRIBE, b"a")
    until(lambda: proxy.board.subscriptions.count == 1, "the cancellation")
    other.close(linger=0)
    assert publisher.recv() == b"\x00a"


def test_an_xsub_may_subscribe_with_a_message(bus: tuple[BusProxy, Peers]) -> None:
    proxy, peers = bus
    subscriber = peers.subscriber(kind=zmq.XSUB)
    subscriber.send(b"\x01topic")
    knows(proxy, b"topic")
    subscriber.send(b"user message")
    peers.publisher().send_multipart([b"topic", b"{}"])
    assert subscriber.recv_multipart() == [b"topic", b"{}"]


def test_heartbeats_are_answered() -> None:
    lines: list[str] = []
    with a_bus(on_line=lines.append) as (_, peers):
        subscriber = peers.socket(zmq.SUB)
        publisher = peers.socket(zmq.PUB)
        for side, address in ((subscriber, peers.xpub), (publisher, peers.xsub)):
            side.setsockopt(zmq.HEARTBEAT_IVL, 50)
            side.setsockopt(zmq.HEARTBEAT_TIMEOUT, 200)
            side.connect(address)
        until(lambda: sum("connected" in line for line in lines) == 2, "both connections")
        assert not subscriber.poll(600), "nothing to read but heartbeats, which libzmq keeps to itself"
        assert not any("disconnected" in line for line in lines)


def test_a_late_subscriber_to_exactly_a_kept_topic_gets_its_last_message_and_nobody_else(
    bus: tuple[BusProxy, Peers],
) -> None:
    proxy, peers = bus
    everything = peers.subscriber(b"")
    knows(proxy, b"")
    publisher = peers.publisher()
    for number in range(3):
        publisher.send_multipart([b"llm.health", b'{"n":%d}' % number])
    publisher.send_multipart([b"llm.other", b"{}"])
    assert [everything.recv_multipart()[1] for _ in range(4)] == [b'{"n":0}', b'{"n":1}', b'{"n":2}', b"{}"]
    late = peers.subscriber(b"llm.health")
    assert late.recv_multipart() == [b"llm.health", b'{"n":2}']
    by_prefix = peers.subscriber(b"llm.heal")
    knows(proxy, b"llm.heal")
    publisher.send_multipart([b"llm.health", b"new"])
    assert by_prefix.recv_multipart()[1] == b"new"
    assert everything.recv_multipart()[1] == b"new"
    assert late.recv_multipart()[1] == b"new"


def test_status_counts_what_passed_and_says_who_is_there(bus: tuple[BusProxy, Peers]) -> None:
    proxy, peers = bus
    subscriber = peers.subscriber(b"llm.")
    knows(proxy, b"llm.")
    publisher = peers.publisher()
    for number in range(5):
        publisher.send_multipart([b"llm.response.%d" % number, b"x" * 100])
    publisher.send_multipart([b"unheard", b"{}"])
    publisher.send_multipart([b"llm.health", b"{}"])
    while subscriber.recv_multipart()[0] != b"llm.health":
        pass
    found = status(peers)
    families = {one["family"]: one for one in found["families"]}
    response = families["llm.response"]
    size = 5 * len(message(b"llm.response.1", b"x" * 100))
    assert (response["messages_in"], response["bytes_in"], response["messages_out"]) == (5, size, 5)
    assert (families["unheard"]["messages_in"], families["unheard"]["messages_out"]) == (1, 0)
    sides = sorted((one["side"], one["kind"], one["messages"], one["subscriptions"]) for one in found["peers"])
    assert sides == [("publisher", "XPUB", 7, 0), ("subscriber", "SUB", 0, 1), ("subscriber", "SUB", 6, 1)]
    assert (found["xsub"], found["xpub"], found["pid"]) == (proxy.xsub, proxy.xpub, os.getpid())
    assert [(one["topic"], one["bytes"] > 0) for one in found["last_values"]] == [
        ("llm.gpu_profile", False),
        ("llm.health", True),
    ]


def test_subscriptions_beyond_the_limits_are_refused_and_the_others_served() -> None:
    lines: list[str] = []
    with a_bus(BusLimits(subscriptions_each=10, subscriptions=15, prefix_bytes=64), lines.append) as (proxy, peers):
        topics = [b"greedy-%02d" % number for number in range(50)]
        greedy = peers.subscriber(*topics, b"x" * 65)
        until(lambda: refused_of(proxy) == 41, "the refusals")
        assert proxy.board.subscriptions.count == 10
        modest = peers.subscriber(b"modest")
        knows(proxy, b"modest")
        publisher = peers.publisher()
        for topic in (*topics, b"modest"):
            publisher.send_multipart([topic, b"{}"])
        assert modest.recv_multipart() == [b"modest", b"{}"]
        assert len({greedy.recv_multipart()[0] for _ in range(10)}) == 10
        assert not greedy.poll(50)
        until(lambda: any("refused: " in line and "too many" in line for line in lines), "a line")


def refused_of(proxy: BusProxy) -> int:
    return sum(getattr(one, "refused", 0) for one in tuple(proxy.connections.values()))


def test_a_message_of_100_000_frames_is_dropped_and_the_next_one_taken(bus: tuple[BusProxy, Peers]) -> None:
    proxy, peers = bus
    subscriber = peers.subscriber(b"")
    knows(proxy, b"")
    publisher = raw_publisher(proxy)
    publisher.sendall(frame(1, b"flood") + frame(1, b"") * 100_000 + frame(0, b"") + message(b"good", b"{}"))
    assert subscriber.recv_multipart() == [b"good", b"{}"]
    (dropped,) = [one["dropped"] for one in status(peers)["peers"] if one["side"] == "publisher"]
    assert dropped == 1
    publisher.close()


def test_a_frame_above_the_limit_is_dropped_without_being_held(bus: tuple[BusProxy, Peers]) -> None:
    proxy, peers = bus
    subscriber = peers.subscriber(b"")
    knows(proxy, b"")
    publisher = raw_publisher(proxy)
    body = b"x" * (MAX_PAYLOAD_BYTES + 1)
    publisher.sendall(message(b"large", body) + message(b"good", b"{}"))
    assert subscriber.recv_multipart() == [b"good", b"{}"]
    assert status(peers)["held_bytes"] == 0
    publisher.close()


def test_messages_that_stay_incomplete_hold_no_more_than_is_allowed() -> None:
    with a_bus(BusLimits(held_bytes=1_000_000)) as (proxy, peers), ExitStack() as stack:
        subscriber = peers.subscriber(b"")
        knows(proxy, b"")
        for _ in range(5):
            one = stack.enter_context(raw_publisher(proxy))
            one.sendall(message(b"slow", b"x" * 600_000)[:500_000])
        until(lambda: len(proxy.connections) == 6 and dropped_of(proxy) == 3, "what is too much")
        assert proxy._shared.held.now_bytes <= 1_000_000
        peers.publisher().send_multipart([b"good", b"{}"])
        assert subscriber.recv_multipart() == [b"good", b"{}"]
    assert proxy._shared.held.now_bytes == 0


def dropped_of(proxy: BusProxy) -> int:
    return sum(one.messages_dropped for one in tuple(proxy.connections.values()))


def test_a_stalled_reader_loses_messages_which_are_counted_and_the_others_lose_none() -> None:
    lines: list[str] = []
    limits = BusLimits(held_bytes=4_000_000)
    with a_bus(limits, lines.append) as (proxy, peers):
        stalled = raw_subscriber(proxy, b"flood")
        reader = peers.socket(zmq.SUB)
        reader.set_hwm(0)
        reader.connect(peers.xpub)
        reader.setsockopt(zmq.SUBSCRIBE, b"flood")
        until(lambda: proxy.board.subscriptions.count == 2, "both subscriptions")
        publisher = peers.publisher()
        for number in range(2000):
            publisher.send_multipart([b"flood", b"%06d" % number + b"x" * 10_000])
            assert reader.recv_multipart()[1][:6] == b"%06d" % number
        slow = next(one for one in status(peers)["peers"] if one["dropped"])
        assert 0 < slow["queued_messages"] <= limits.queued_messages
        assert slow["queued_bytes"] <= limits.held_bytes / 2 + 70_000
        assert slow["messages"] + slow["dropped"] == 2000
        until(lambda: any("does not keep up" in line for line in lines), "a line")
        # What waits is whole messages: it reads them all when it reads again.
        stalled.settimeout(2)
        held = b""
        with suppress(TimeoutError):
            while True:
                held += stalled.recv(2**20)
        at = held.index(message(b"flood", b"000000" + b"x" * 10_000))
        one = len(message(b"flood", b"000000" + b"x" * 10_000))
        assert len(held[at:]) == one * slow["messages"]
        assert proxy._shared.held.now_bytes == 0
        stalled.close()


@pytest.mark.parametrize(
    ("side", "data", "reason"),
    [
        ("xsub", b"GET / HTTP/1.1\r\n\r\n", "does not speak ZMTP"),
        ("xsub", GREETING + ready(b"SUB"), "b'SUB'"),
        ("xpub", GREETING + ready(b"PUB"), "b'PUB'"),
        ("xpub", GREETING + ready(b"SUB") + b"\xff" * 16, "does not know"),
        ("xsub", GREETING[:5], "never said"),
    ],
)
def test_who_does_not_speak_as_it_should_is_cut_off_and_named(side: str, data: bytes, reason: str) -> None:
    lines: list[str] = []
    with a_bus(BusLimits(handshake_s=0.1), lines.append) as (proxy, peers):
        stranger = connect(getattr(proxy, side), timeout_s=DEADLINE_S)
        stranger.sendall(data)
        with suppress(ConnectionResetError):
            while stranger.recv(4096):
                pass
        stranger.close()
        until(lambda: any(reason in line for line in lines), f"{reason} in {lines}")
        assert status(peers)["peers_cut"] == 1


def test_connections_beyond_the_limit_are_refused() -> None:
    with a_bus(BusLimits(connections=2)) as (proxy, _):
        sides = [connect(proxy.xsub, timeout_s=DEADLINE_S) for _ in range(3)]
        assert sides[0].recv(10)
        assert sides[1].recv(10)
        assert sides[2].recv(10) == b""
        for side in sides:
            side.close()
        until(lambda: not proxy.connections, "all have left")
        assert proxy.connections_refused == 1


def test_comings_and_goings_are_told() -> None:
    lines: list[str] = []
    with a_bus(on_line=lines.append) as (proxy, peers):
        subscriber = peers.subscriber(b"a")
        knows(proxy, b"a")
        subscriber.close(linger=0)
        until(lambda: len(lines) == 2, "two lines")
    address = lines[0].removeprefix("connected: ")
    assert address.startswith("subscriber 127.0.0.1:")
    assert address.endswith("(SUB)")
    assert lines == [f"connected: {address}", f"disconnected: {address}: it left"]


def test_ipc_works_over_a_file_that_was_left_but_not_over_one_in_use(tmp_path: Path) -> None:
    xsub, xpub = f"ipc://{tmp_path}/xsub", f"ipc://{tmp_path}/xpub"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "xsub"))
    with BusProxy(xsub, xpub) as proxy, peers_on(xsub, xpub) as peers:
        subscriber = peers.subscriber(b"topic")
        knows(proxy, b"topic")
        peers.publisher().send_multipart([b"topic", b"{}"])
        assert subscriber.recv_multipart() == [b"topic", b"{}"]
        assert {one["address"] for one in status(peers)["peers"]} == {f"pid {os.getpid()}"}
        with pytest.raises(ObstacleError) as raised:
            BusProxy(xsub, f"ipc://{tmp_path}/other")
        assert raised.value.problems[0].code == "KI701"
    assert list(tmp_path.iterdir()) == []


def test_names_without_a_file_are_addresses_too() -> None:
    name = f"ipc://@kloros-infra-test-{os.getpid()}"
    with BusProxy(f"{name}-xsub", f"{name}-xpub") as proxy, peers_on(proxy.xsub, proxy.xpub) as peers:
        subscriber = peers.subscriber(b"topic")
        knows(proxy, b"topic")
        peers.publisher().send_multipart([b"topic", b"{}"])
        assert subscriber.recv_multipart() == [b"topic", b"{}"]


def test_closing_cuts_everybody_and_is_fine_twice() -> None:
    proxy = a_proxy()
    side = connect(proxy.xsub, timeout_s=DEADLINE_S)
    assert side.recv(4096)
    proxy.close()
    assert side.recv(4096) == b""
    side.close()
    proxy.close()


def test_a_fault_in_the_proxy_ends_it_and_is_not_swallowed() -> None:
    def faulty(line: str) -> None:
        raise ValueError(line)

    ended = threading.Event()
    proxy = BusProxy(ANY, ANY, on_line=faulty, ended=ended)
    side = raw_publisher(proxy)
    assert ended.wait(DEADLINE_S)
    side.close()
    with pytest.raises(ValueError, match="connected"):
        proxy.close()


def test_lines_are_told_on_the_caller_s_thread_which_may_take_its_time() -> None:
    stop, bound, lines = threading.Event(), threading.Event(), list[str]()
    addresses: list[str] = []

    def on_bound(*found: str) -> None:
        addresses.extend(found)
        bound.set()

    def on_line(line: str) -> None:
        lines.append(threading.current_thread().name)
        stop.wait(DEADLINE_S)

    running = threading.Thread(
        target=run_proxy,
        args=(ANY, ANY),
        kwargs={"stop": stop, "on_bound": on_bound, "on_line": on_line},
        name="caller",
    )
    running.start()
    assert bound.wait(DEADLINE_S)
    with peers_on(*addresses) as peers:
        subscriber = peers.subscriber(b"topic")
        until(lambda: bool(lines), "a line that takes its time")
        publisher = peers.publisher()
        while not subscriber.poll(10):
            publisher.send_multipart([b"topic", b"{}"])
    stop.set()
    running.join(DEADLINE_S)
    assert set(lines) == {"caller"}


@contextmanager
def a_process(xsub: str = ANY, xpub: str = ANY, *, descriptors: int | None = None) -> Iterator[tuple[Any, str, str]]:
    """Run `kloros-infra bus` as a process; give it and its addresses."""
    words = (sys.executable, "-m", "kloros_infra", "bus", "--xsub", xsub, "--xpub", xpub)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KLR_")}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            if descriptors:
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
            bound = process.stdout.readline().removeprefix("ChemBus: ").strip()
            publishers, _, subscribers = bound.partition(" -> ")
            yield process, publishers, subscribers
        finally:
            process.kill()


def test_peers_find_a_proxy_again_that_was_killed() -> None:
    with ExitStack() as stack:
        process, xsub, xpub = stack.enter_context(a_process())
        peers = stack.enter_context(peers_on(xsub, xpub))
        subscriber = peers.subscriber(b"topic")
        publisher = peers.socket(zmq.PUB)
        publisher.connect(xsub)
        for number in range(3):
            payload = b"%d" % number
            deadline = time.monotonic() + DEADLINE_S
            while not subscriber.poll(5):
                assert time.monotonic() < deadline
                publisher.send_multipart([b"topic", payload])
            assert subscriber.recv_multipart() == [b"topic", payload]
            process.send_signal(signal.SIGKILL)
            process.wait()
            while subscriber.poll(50):
                subscriber.recv_multipart()
            process, *_ = stack.enter_context(a_process(xsub, xpub))


def memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_million_subscriptions_do_not_make_it_grow() -> None:
    with a_process() as (process, xsub, xpub), peers_on(xsub, xpub) as peers:
        before = status(peers)["memory_bytes"]
        greedy = connect(xpub, timeout_s=1.0)
        wishes = b"".join(b"\x00\x2e\x01llm.response.%032x" % (number * 2**90) for number in range(1_000_000))
        greedy.sendall(GREETING + ready(b"SUB"))
        with suppress(TimeoutError):  # it is held back, once it has asked for too much
            greedy.sendall(wishes)
        subscriber = peers.subscriber(b"topic")
        publisher = peers.publisher()
        while not subscriber.poll(10):
            publisher.send_multipart([b"topic", b"{}"])
        found = status(peers)
        assert found["subscriptions"] <= 8192 + 3
        assert any(one["subscriptions_refused"] for one in found["peers"])
        assert memory_bytes(process.pid) - before < 32_000_000
        greedy.close()


def test_without_descriptors_it_neither_ends_nor_spins() -> None:
    with a_process(descriptors=64) as (process, xsub, xpub):
        sides = [connect(xsub, timeout_s=DEADLINE_S) for _ in range(100)]
        spent = time.monotonic() + 1.0
        began = cpu_s(process.pid)
        while time.monotonic() < spent:
            threading.Event().wait(0.1)
        assert cpu_s(process.pid) - began < 0.5
        for side in sides:
            side.close()
        with peers_on(xsub, xpub) as peers:
            subscriber = peers.subscriber(b"topic")
            publisher = peers.publisher()
            while not subscriber.poll(10):
                publisher.send_multipart([b"topic", b"{}"])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
