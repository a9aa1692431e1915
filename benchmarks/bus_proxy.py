"""Measure the ChemBus proxy against libzmq's own (`zmq_proxy`) in the same run: one hop, and peers that misbehave.

Proxies run as processes of their own; clients are plain ZeroMQ sockets, peers that misbehave are raw sockets. Times are
of the fastest of several passes, which other work on the machine disturbed least. Prints Markdown tables:

    python -m benchmarks.bus_proxy
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import zmq

from kloros_infra.adapters.bus_address import connect
from kloros_infra.adapters.bus_proxy import BusProxy
from kloros_infra.adapters.zmtp import GREETING, frame, message, ready

ROUND_TRIPS = 4_000
BURST = 200_000
PAYLOAD = b"x" * 1024
LARGE = b"x" * 65_536
SUBSCRIPTIONS = 1_000_000
FRAMES = 100_000
STALLED = 8
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy process."""

    pid: int
    xsub: str
    xpub: str

    def cpu_s(self) -> float:
        """Say how much processor time it took (proc_pid_stat(5))."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, which: str = "VmRSS") -> int:
        """Say how much memory it has, or had at most (`VmHWM`)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


@dataclass(frozen=True, slots=True)
class Hop:
    """What one hop of 1 KB takes."""

    p50_us: float
    p99_us: float
    messages_per_s: float
    cpu_us: float
    lost: int
    idle_bytes: int


@dataclass(frozen=True, slots=True)
class Bout:
    """What a peer that misbehaves does to the proxy and to the others."""

    memory_bytes: int
    p99_before_us: float
    p99_us: float
    lost: int


def run_ours(told: Connection) -> None:
    """Run our proxy until killed."""
    with BusProxy("tcp://127.0.0.1:*", "tcp://127.0.0.1:*") as proxy:
        told.send((proxy.xsub, proxy.xpub))
        threading.Event().wait()


def run_libzmq(told: Connection) -> None:
    """Run libzmq's, with the settings of KLoROS's proxy."""
    context = zmq.Context()
    sides = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    sides[1].setsockopt(zmq.XPUB_VERBOSE, 1)
    for side in sides:
        side.set_hwm(1000)
        side.bind("tcp://127.0.0.1:*")
    told.send(tuple(side.getsockopt_string(zmq.LAST_ENDPOINT) for side in sides))
    zmq.proxy(*sides)


PROXIES: dict[str, Callable[[Connection], None]] = {"zmq_proxy": run_libzmq, "ours": run_ours}


@contextmanager
def a_proxy(run: Callable[[Connection], None]) -> Iterator[Running]:
    """Give a running proxy."""
    told, telling = FORK.Pipe(duplex=False)
    process = FORK.Process(target=run, args=(telling,))
    process.start()
    try:
        yield Running(process.pid or 0, *told.recv())
    finally:
        process.kill()
        process.join()


@contextmanager
def a_pair(proxy: Running, topic: bytes) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """Give a publisher and a subscriber that know of each other."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    publisher, subscriber = context.socket(zmq.PUB), context.socket(zmq.SUB)
    publisher.set_hwm(0)
    subscriber.set_hwm(0)
    publisher.connect(proxy.xsub)
    subscriber.connect(proxy.xpub)
    subscriber.setsockopt(zmq.SUBSCRIBE, topic)
    while not subscriber.poll(20):
        publisher.send_multipart([topic, b"ready"])
    while subscriber.poll(200):
        subscriber.recv_multipart()
    try:
        yield publisher, subscriber
    finally:
        context.destroy(linger=0)


def percentile(values: list[float], share: float) -> float:
    """Give the value below which a share of them lies, in microseconds."""
    return sorted(values)[int(len(values) * share)] * 1e6


def send_burst(writer: socket.socket, one: bytes) -> None:
    """Send as fast as the proxy takes it, in blocks as libzmq does."""
    block = one * 8
    for _ in range(BURST // 8):
        writer.sendall(block)


def await_route(reader: socket.socket, writer: socket.socket) -> None:
    """Send until it arrives, and read until nothing comes any more."""
    reader.settimeout(0.2)
    probe = message(b"topic", b"probe")
    held = b""
    while not held.endswith(probe):
        writer.sendall(probe)
        with suppress(TimeoutError):
            held += reader.recv(65_536)
    with suppress(TimeoutError):
        while reader.recv(65_536):
            pass


def hop(run: Callable[[Connection], None]) -> Hop:
    """Measure one hop."""
    with a_proxy(run) as proxy:
        idle_bytes = proxy.memory_bytes()
        times = []
        with a_pair(proxy, b"topic") as (publisher, subscriber):
            for _ in range(ROUND_TRIPS):
                begun = time.perf_counter()
                publisher.send_multipart([b"topic", PAYLOAD])
                subscriber.recv_multipart()
                times.append(time.perf_counter() - begun)
        reader, writer = raw_peer(proxy.xpub, b"SUB"), raw_peer(proxy.xsub, b"PUB")
        reader.sendall(message(b"\x01topic"))
        writer.settimeout(None)
        await_route(reader, writer)
        one = message(b"topic", PAYLOAD)
        sender = threading.Thread(target=send_burst, args=(writer, one))
        begun, cpu_s, got_bytes = time.perf_counter(), proxy.cpu_s(), 0
        sender.start()
        reader.settimeout(1)
        with suppress(TimeoutError):
            while got_bytes < BURST * len(one):
                got_bytes += len(reader.recv(2**20))
                last = time.perf_counter()
        sender.join()
        got = got_bytes // len(one)
        cpu_us = (proxy.cpu_s() - cpu_s) / got * 1e6
    return Hop(percentile(times, 0.5), percentile(times, 0.99), got / (last - begun), cpu_us, BURST - got, idle_bytes)


def raw_peer(address: str, socket_type: bytes) -> socket.socket:
    """Connect without libzmq; the other side is ready for messages."""
    connected = connect(address, timeout_s=60)
    connected.sendall(GREETING + ready(socket_type))
    heard = b""
    while b"Socket-Type" not in heard:
        heard += connected.recv(4096)
    return connected


@cache
def million_wishes() -> bytes:
    """Write subscriptions to a million topics with ids like those of requests; the same ones each time."""
    ids = hashlib.shake_128(b"ids").digest(8 * SUBSCRIPTIONS)
    return b"".join(
        message(b"\x01llm.response." + ids[at : at + 8].hex().encode()) for at in range(0, 8 * SUBSCRIPTIONS, 8)
    )


def million_subscriptions(proxy: Running) -> None:
    """Subscribe to a million topics, as the design document's requests would, and stay."""
    raw_peer(proxy.xpub, b"SUB").sendall(million_wishes())
    threading.Event().wait()


def many_frames(proxy: Running) -> None:
    """Send messages of 100,000 frames, one after another."""
    one = raw_peer(proxy.xsub, b"PUB")
    body = frame(1, b"flood") + frame(1, b"x") * (FRAMES - 2) + frame(0, b"x")
    while True:
        one.sendall(body)
        time.sleep(0.1)  # the pace of the attack


def stalled_readers(proxy: Running) -> None:
    """Subscribe to a flood and never read, while 64 KB messages come."""
    readers = [raw_peer(proxy.xpub, b"SUB") for _ in range(STALLED)]
    for one in readers:
        one.sendall(message(b"\x01flood"))
    publisher = raw_peer(proxy.xsub, b"PUB")
    body = message(b"flood", LARGE)
    while readers:
        publisher.sendall(body)
        time.sleep(0.0005)  # the pace of the attack


ATTACKS: dict[str, Callable[[Running], None]] = {
    "1,000,000 subscriptions of one peer": million_subscriptions,
    "messages of 100,000 frames, 10 a second": many_frames,
    f"{STALLED} stalled readers of 64 KB messages": stalled_readers,
}


def bout(run: Callable[[Connection], None], attack: Callable[[Running], None]) -> Bout:
    """Measure what an attack does to others, and to the proxy's memory."""
    with a_proxy(run) as proxy, a_pair(proxy, b"others") as pair:
        before, _ = watched(*pair, seconds=2)
        process = FORK.Process(target=attack, args=(proxy,))
        process.start()
        try:
            during, lost = watched(*pair, seconds=6)
        finally:
            process.kill()
            process.join()
        return Bout(proxy.memory_bytes("VmHWM"), percentile(before, 0.99), percentile(during, 0.99), lost)


def best_bout(run: Callable[[Connection], None], attack: Callable[[Running], None], passes: int) -> Bout:
    """Take the most memory of several passes, and the times least disturbed by other work on the machine."""
    found = [bout(run, attack) for _ in range(passes)]
    return Bout(
        max(one.memory_bytes for one in found),
        min(one.p99_before_us for one in found),
        min(one.p99_us for one in found),
        min(one.lost for one in found),
    )


def watched(publisher: zmq.Socket[bytes], subscriber: zmq.Socket[bytes], *, seconds: float) -> tuple[list[float], int]:
    """Send 1 KB every 2 ms and see how long each takes."""
    times, lost, until = [], 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        publisher.send_multipart([b"others", PAYLOAD])
        if subscriber.poll(5000):
            subscriber.recv_multipart()
            times.append(time.perf_counter() - begun)
        else:
            lost += 1
        time.sleep(0.002)  # the pace of the questions
    return times, lost


def best(passes: list[Hop]) -> Hop:
    """Take each figure from the pass in which it was best."""
    return Hop(
        min(one.p50_us for one in passes),
        min(one.p99_us for one in passes),
        max(one.messages_per_s for one in passes),
        min(one.cpu_us for one in passes),
        min(one.lost for one in passes),
        min(one.idle_bytes for one in passes),
    )


def hop_table(found: dict[str, Hop]) -> Iterator[str]:
    """Write one hop as a table; ratios are ours to libzmq's."""
    peer, ours = found["zmq_proxy"], found["ours"]
    yield "| one hop of 1 KB | zmq_proxy | ours | ratio |"
    yield "|---|---|---|---|"
    for name, theirs, own in (
        ("p50 µs, one outstanding", peer.p50_us, ours.p50_us),
        ("p99 µs", peer.p99_us, ours.p99_us),
        ("messages/s, one publisher in a burst", peer.messages_per_s, ours.messages_per_s),
        ("CPU µs of the proxy a message", peer.cpu_us, ours.cpu_us),
    ):
        yield f"| {name} | {theirs:,.1f} | {own:,.1f} | {own / theirs:.2f} |"
    yield f"| lost of {BURST:,} in the burst | {peer.lost:,} | {ours.lost:,} | |"
    yield f"| memory when idle, MB | {peer.idle_bytes / 1e6:.0f} | {ours.idle_bytes / 1e6:.0f} | |"


def bout_table(found: dict[str, dict[str, Bout]]) -> Iterator[str]:
    """Write what attacks do as a table."""
    yield "| a peer sends | memory at most, MB: zmq_proxy | ours | others' p99, times as before: zmq_proxy | ours |"
    yield "|---|---|---|---|---|"
    for name, bouts in found.items():
        memory = " | ".join(f"{bouts[one].memory_bytes / 1e6:,.0f}" for one in PROXIES)
        slower = " | ".join(slower_text(bouts[one]) for one in PROXIES)
        yield f"| {name} | {memory} | {slower} |"


def slower_text(one: Bout) -> str:
    """Write how much slower the others were, and what they lost."""
    text = f"{one.p99_us / one.p99_before_us:.1f} ({one.p99_before_us:.0f} -> {one.p99_us:.0f} µs)"
    return f"{text}, {one.lost} lost" if one.lost else text


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--passes", type=int, default=3)
    chosen = arguments.parse_args()
    hops: dict[str, list[Hop]] = {name: [] for name in PROXIES}
    for _ in range(chosen.passes):
        for name, run in PROXIES.items():
            hops[name].append(hop(run))
    print("\n".join(hop_table({name: best(passes) for name, passes in hops.items()})))  # noqa: T201 - its output
    bouts = {name: {which: bout(run, attack) for which, run in PROXIES.items()} for name, attack in ATTACKS.items()}
    print("\n" + "\n".join(bout_table(bouts)))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
