"""Measure what the bus and the router's decision cost: round trips of 1 KB, requests a second, answers lost.

Upstreams answer at once and in memory. Router, proxy and load are processes of their own, the router on the first core,
the load on the second. Prints a Markdown table:

    python -m benchmarks.bus_round_trip
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count as counting
from itertools import islice
from pathlib import Path
from typing import Any

import uvloop
import zmq

from benchmarks.router_hops import cpu_s
from kloros_infra.adapters.bus_proxy import BusProxy
from kloros_infra.adapters.chembus import BusPeer
from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.direct_endpoint import DirectEndpoint
from kloros_infra.adapters.line_journal import LineJournal
from kloros_infra.client import Addresses, AsyncClient, Client
from kloros_infra.daemon.answer_log import AnswerLog
from kloros_infra.daemon.bus_service import BusService, topics
from kloros_infra.daemon.ports import Completion, Hearer
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.effects import Send
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.bus import FakeBus
from tests.fakes.hands import a_desk

ROUTER_CORE, LOAD_CORE = 0, 1
PROMPT, TEXT = "x" * 700, "y" * 700
"""With envelope and metadata about 1 KB each."""
PARALLEL = 8192
WARM_UP = 200
PASSES = 5
NUMBERS = counting()


class InstantUpstreams:
    """Implements `daemon.ports.Upstreams`: answers before the asking returns."""

    completion = Completion(TEXT, "", "stop", 200, 200, 0.001, 0.002, 100.0)

    def chat(self, _send: Send, _body: Mapping[str, Any], hearer: Hearer) -> InstantUpstreams:
        hearer.on_completion(self.completion)
        return self

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `goal` is empty where nothing is asked for."""

    name: str
    p50_us: float | None = None
    p99_us: float | None = None
    per_s: float | None = None
    cpu_us: float | None = None
    lost: str = ""
    goal: str = ""

    def __str__(self) -> str:
        figures = (self.p50_us, self.p99_us, self.per_s, self.cpu_us)
        cells = ("" if figure is None else f"{figure:,.0f}" for figure in figures)
        return f"| {self.name} | {' | '.join(cells)} | {self.lost} | {self.goal} |"


HEAD = "| path | p50 us | p99 us | requests/s | router CPU us/request | lost | goal |\n|---|---|---|---|---|---|---|"


async def serve(bus: RoutedBus, journal: str | None) -> None:
    """Run a router's bus service until killed."""
    table = a_routing_table(a_routed_model("small", an_upstream(parallel=PARALLEL)))
    clock = SystemClock()
    desk, _ = a_desk(table, clock)
    answers = AnswerLog(LineJournal(Path(journal)), clock) if journal else None
    async with BusPeer(bus, topics(bus)) as peer, AsyncExitStack() as doors:
        direct = await doors.enter_async_context(DirectEndpoint(bus.direct)) if bus.direct else None
        service = BusService(peer, desk, InstantUpstreams(), clock, direct=direct, answers=answers)
        service.open()
        await service.follow()


@contextmanager
def running(core: int | None, *words: str) -> Iterator[int]:
    """Run this file as another process; give its pid."""
    argv = [sys.executable, "-m", "benchmarks.bus_round_trip", *words]
    process = subprocess.Popen(argv)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait(10)


def request(number: int) -> bytes:
    """Write a request of 1 KB as KLoROS's publishers do; ids are never used twice."""
    request_id = f"bench-{os.getpid()}-{number:08d}"
    facts = {"request_id": request_id, "purpose": "fast", "prompt": PROMPT, "metadata": {"source_service": "bench"}}
    envelope = {"signal": "llm.request", "ecosystem": "llm", "intensity": 1.0, "facts": facts}
    envelope |= {"incident_id": request_id, "trace": None, "ts": time.time(), "schema_version": 1}
    return json.dumps(envelope, separators=(",", ":")).encode()


class Load:
    """Plain sockets of one client."""

    def __init__(self, bus: RoutedBus, *, is_direct: bool) -> None:
        self._context = zmq.Context()
        self._is_direct = is_direct
        if is_direct and bus.direct:
            self.incoming = self._outgoing = self._context.socket(zmq.DEALER)
            self._outgoing.set_hwm(0)
            self._outgoing.connect(bus.direct)
        else:
            self._outgoing, self.incoming = self._context.socket(zmq.PUB), self._context.socket(zmq.SUB)
            for side in (self._outgoing, self.incoming):
                side.set_hwm(0)
            self.incoming.setsockopt(zmq.SUBSCRIBE, b"llm.response.bench-")
            self._outgoing.connect(bus.xsub)
            self.incoming.connect(bus.xpub)
        self._join()

    def _join(self) -> None:
        """Ask until answered, and forget what was answered twice."""
        deadline = time.monotonic() + 20
        while not self.incoming.poll(50):
            if time.monotonic() > deadline:
                raise SystemExit("no router answers")
            self.send()
        while self.incoming.poll(300):
            self.incoming.recv_multipart()

    def message(self) -> tuple[bytes, ...]:
        """Write the next request."""
        payload = request(next(NUMBERS))
        return (payload,) if self._is_direct else (b"llm.request", payload)

    def send_message(self, message: tuple[bytes, ...]) -> None:
        """Send a request that was written before."""
        self._outgoing.send_multipart(message)

    def send(self) -> None:
        """Send the next request."""
        self._outgoing.send_multipart(self.message())

    def close(self) -> None:
        """Close the sockets."""
        self._context.destroy(linger=0)


def round_trips(bus: RoutedBus, count: int, *, is_direct: bool) -> list[float]:
    """Ask one thing after the other; give the times in microseconds."""
    load, times = Load(bus, is_direct=is_direct), []
    for number in range(WARM_UP + count):
        began = time.perf_counter()
        load.send()
        if not load.incoming.poll(2000):
            raise SystemExit("an answer was lost")
        load.incoming.recv_multipart()
        if number >= WARM_UP:
            times.append((time.perf_counter() - began) * 1e6)
    load.close()
    return times


def throughput(bus: RoutedBus, count: int, window: int, pid: int, *, is_direct: bool) -> tuple[float, float, int]:
    """Keep `window` requests under way; give requests/s, the router's CPU per request and how many got no answer."""
    load = Load(bus, is_direct=is_direct)
    messages = [load.message() for _ in range(count)]
    cpu, began, answered = cpu_s(pid), time.perf_counter(), 0
    for message in messages[:window]:
        load.send_message(message)
    rest = iter(messages[window:])
    while answered < count and load.incoming.poll(2000):
        with suppress(zmq.Again):
            while True:
                load.incoming.recv_multipart(zmq.NOBLOCK)
                answered += 1
                for message in islice(rest, 1):
                    load.send_message(message)
    took = time.perf_counter() - began
    load.close()
    return count / took, (cpu_s(pid) - cpu) / count * 1e6, count - answered


def decisions(count: int) -> float:
    """Hand requests to the bus face without any socket: read, decide, answer; give requests a second of CPU."""

    async def run() -> float:
        desk, _ = a_desk(a_routing_table(a_routed_model("small", an_upstream(parallel=PARALLEL))), SystemClock())
        bus = _Silent()
        service = BusService(bus, desk, InstantUpstreams(), SystemClock())
        service.open()
        messages = [request(number) for number in range(count)]
        began = time.thread_time()
        for start in range(0, count, 100):
            for message in messages[start : start + 100]:
                bus.arrive("llm.request", message)
            await asyncio.sleep(0)
        took = time.thread_time() - began
        if bus.count < count:
            raise SystemExit(f"{count - bus.count} answers are missing")
        desk.close()
        return count / took

    return uvloop.run(run())


class _Silent(FakeBus):
    """Counts what is published."""

    count = 0

    def publish(self, _topic: str, _payload: bytes) -> None:
        self.count += 1


async def fresh_clients(addresses: Addresses, count: int) -> int:
    """Have new clients ask once each, a hundred at a time; give how many got no answer."""

    async def ask() -> bool:
        async with AsyncClient(addresses) as client:
            return (await client.ask(PROMPT, timeout_s=20)).text == TEXT

    lost = 0
    for _ in range(0, count, 100):
        found = await asyncio.gather(*(ask() for _ in range(100)), return_exceptions=True)
        lost += sum(one is not True for one in found)
    return lost


def library(addresses: Addresses, count: int) -> list[float]:
    """Ask one thing after the other with the client library."""
    times = []
    with Client(addresses) as client:
        for number in range(WARM_UP + count):
            began = time.perf_counter()
            client.ask(PROMPT)
            if number >= WARM_UP:
                times.append((time.perf_counter() - began) * 1e6)
    return times


def trips(name: str, passes: Iterable[list[float]], goal: str) -> Row:
    """Sum up the round trips of the best pass: the others met with whatever else the machine does."""
    p50, p99 = min((cuts[49], cuts[98]) for cuts in (statistics.quantiles(times, n=100) for times in passes))
    return Row(name, p50, p99, goal=goal)


def measure(folder: str, count: int, clients: int) -> Iterator[Row]:
    """Measure everything."""
    yield Row(
        "decision alone: read, route, answer",
        per_s=max(decisions(count // 4) for _ in range(PASSES)),
        lost="0",
        goal="30,000/s",
    )
    with BusProxy("tcp://127.0.0.1:*", "tcp://127.0.0.1:*") as probe:
        xsub, xpub = probe.xsub, probe.xpub
    bus = RoutedBus(xsub=xsub, xpub=xpub, direct=f"ipc://{folder}/direct")
    with (
        running(None, "--proxy", xsub, xpub),
        running(ROUTER_CORE, "--serve", bus.model_dump_json()) as pid,
    ):
        os.sched_setaffinity(0, {LOAD_CORE})
        yield from measure_trips(bus, count // 10)
        for name, is_direct in (("direct", True), ("bus", False)):
            runs = [throughput(bus, count, 256, pid, is_direct=is_direct) for _ in range(2)]
            per_s, cpu_us, _ = max(runs)
            lost = sum(run[2] for run in runs)
            yield Row(f"{name}, 256 under way", None, None, per_s, cpu_us, f"{lost} of {2 * count:,}", "0 lost")
        for name, direct in (("direct", bus.direct), ("bus", None)):
            lost = asyncio.run(fresh_clients(Addresses(direct, xsub, xpub), clients))
            yield Row(f"fresh clients, {name}, one question each", lost=f"{lost} of {clients:,}", goal="0 lost")


def measure_trips(bus: RoutedBus, count: int) -> Iterator[Row]:
    """Measure round trips with plain sockets, then with the client library."""
    direct, over_bus = Addresses(bus.direct, bus.xsub, bus.xpub), Addresses(None, bus.xsub, bus.xpub)
    ways: tuple[tuple[str, Callable[[], list[float]], str], ...] = (
        ("bus: through proxy and decision", lambda: round_trips(bus, count, is_direct=False), "250 / 1,000"),
        ("direct endpoint", lambda: round_trips(bus, count, is_direct=True), "150"),
        ("`Client.ask`, direct", lambda: library(direct, count), ""),
        ("`Client.ask`, bus", lambda: library(over_bus, count), ""),
    )
    for name, way, goal in ways:
        yield trips(name, [way() for _ in range(PASSES)], goal)


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=20_000)
    arguments.add_argument("--clients", type=int, default=2_000)
    arguments.add_argument("--serve", help=argparse.SUPPRESS)
    arguments.add_argument("--journal", help=argparse.SUPPRESS)
    arguments.add_argument("--proxy", nargs=2, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.serve:
        uvloop.run(serve(RoutedBus.model_validate_json(chosen.serve), chosen.journal))
    elif chosen.proxy:
        with BusProxy(*chosen.proxy):
            time.sleep(10**6)  # until it is ended
    else:
        print(HEAD)  # noqa: T201 - its output
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(folder, chosen.requests, chosen.clients):
                print(row, flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main()
