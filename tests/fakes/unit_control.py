"""A service manager in memory, as the router sees it: units start when they are told, unless a test says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from kloros_infra.adapters.service_problems import job_not_finished, unit_failed, unit_not_found
from kloros_infra.errors import UnitError
from kloros_infra.ir.seen_unit import SeenUnit


class FakeUnitControl:
    """Implements `daemon.ports.UnitControl`.

    Units in `failing` do not start, those in `slow` start when their event is set, those in `clinging` do not stop.
    `orders` has what was asked for, `pids` what runs; `crash` ends a unit as if by itself, `leave` as somebody does
    who stops it, and whoever does so has it down with `gone`.
    """

    def __init__(self, units: Iterable[str] = ()) -> None:
        self.known = set(units)
        self.failing: set[str] = set()
        self.clinging: set[str] = set()
        self.crashed: set[str] = set()
        self.leaving: set[str] = set()
        self.killed: set[str] = set()
        self.slow: dict[str, asyncio.Event] = {}
        self.logs: dict[str, tuple[str, ...]] = {}
        self.orders: list[tuple[str, str]] = []
        self.pids: dict[str, int] = {}
        self._last_pid = 1000
        self._jobs: dict[str, int] = {}

    async def start(self, unit: str) -> None:
        await self._job("start", unit)
        self._check(unit)
        if unit not in self.pids:
            self._run(unit)

    async def stop(self, unit: str) -> None:
        await self._job("stop", unit)
        if unit in self.clinging:
            raise UnitError(job_not_finished(unit, "took too long"))
        self.gone(unit)

    async def restart(self, unit: str) -> None:
        await self._job("restart", unit)
        self.gone(unit)
        self._check(unit)
        self._run(unit)

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        return {unit: self._state(unit) for unit in units if unit in self.known}

    async def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        return self.logs.get(unit, ())[-lines:]

    def crash(self, unit: str, *last_lines: str) -> None:
        """End a unit as if by itself."""
        del self.pids[unit]
        self.crashed.add(unit)
        self.logs[unit] = (*self.logs.get(unit, ()), *last_lines)

    def leave(self, unit: str) -> None:
        """Begin to stop a unit for somebody else."""
        self.leaving.add(unit)

    def gone(self, unit: str) -> None:
        """Have a unit be down that somebody has stopped."""
        self.pids.pop(unit, None)
        self.leaving.discard(unit)
        self.crashed.discard(unit)

    def kill_for_good(self, unit: str) -> None:
        """End a unit that took too long to stop: it has failed, and does not come back."""
        self.gone(unit)
        self.killed.add(unit)

    def replace(self, unit: str) -> None:
        """Restart a unit for somebody else."""
        self.gone(unit)
        self._run(unit)

    def _state(self, unit: str) -> SeenUnit:
        crashed, pid = unit in self.crashed, self.pids.get(unit, 0)
        has_failed = crashed or unit in self.killed
        return SeenUnit(pid > 0, pid, is_stopping=unit in self.leaving, has_failed=has_failed, comes_back=crashed)

    async def _job(self, order: str, unit: str) -> None:
        """Wait until a job may end; a later one for the same unit takes its place."""
        self.orders.append((order, unit))
        mine = self._jobs[unit] = self._jobs.get(unit, 0) + 1
        if order != "stop" and unit in self.slow:
            await self.slow[unit].wait()
        if self._jobs[unit] != mine:
            raise UnitError(job_not_finished(unit, "was overtaken by another job"))

    def _check(self, unit: str) -> None:
        if unit not in self.known:
            raise UnitError(unit_not_found(unit, f"Unit {unit} not found."))
        if unit in self.failing:
            problem = unit_failed(unit, result="exit-code", exit_status=1)
            raise UnitError(problem, last_lines=self.logs.get(unit, ()))

    def _run(self, unit: str) -> None:
        self.crashed.discard(unit)
        self.killed.discard(unit)
        self._last_pid += 1
        self.pids[unit] = self._last_pid
