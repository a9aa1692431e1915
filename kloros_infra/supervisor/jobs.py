"""Jobs over units: start, stop and restart with what belongs to them, in order; and the answers about states."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.supervision import log_file
from kloros_infra.supervisor import problems as say
from kloros_infra.supervisor.dependencies import conflicting, pulled_in, stopped_with, waves
from kloros_infra.supervisor.processes import Processes
from kloros_infra.supervisor.read_service import read_service
from kloros_infra.supervisor.runner import ServiceRunner
from kloros_infra.supervisor.service import Phase, StartAsked, StopAsked
from kloros_infra.supervisor.unit_file import UnitFile
from kloros_infra.supervisor.unit_folder import LoadedUnit, read_unit, read_units, specifiers

LOG = logging.getLogger(__name__)


class Jobs:
    """The units of one root and what is done with them; lives on the loop's thread.

    A target has no process: it is up from its start to its stop.
    """

    def __init__(self, root: Path, processes: Processes, environment: Mapping[str, str]) -> None:
        self._root = root
        self._layout = Layout()
        self._folder = self._linked_folder()
        self._processes = processes
        self._environment = environment
        self._units: dict[str, LoadedUnit] = {}
        self._runners: dict[str, ServiceRunner] = {}
        self._targets: set[str] = set()
        self._is_closing = False
        self.reload()

    def reload(self) -> None:
        """Read all unit files again, also of units that run; what is wrong with one is said when it is started.

        As with systemd, whose generator links the units of one generation at each reload, all units are of the
        generation that was current then, until the next reload.
        """
        self._folder = self._linked_folder()
        self._load(keeping=())

    async def start(self, unit: str) -> Problems:
        """Start a unit and what it pulls in, after stopping what conflicts with it."""
        if self._is_closing:
            return (say.shutting_down(unit),)
        # systemd, too, reads a unit that is down from its file as it is now, and leaves one that is up as it was.
        self._load(keeping=self._up())
        return await self._start(unit)

    async def stop(self, unit: str) -> Problems:
        """Stop a unit and what is part of it; nothing is to do for one that is down."""
        await self._stop_all(stopped_with(self._files(), unit) & self._up())
        return ()

    async def restart(self, unit: str) -> Problems:
        """Stop a unit and what is part of it, then start again what was up, and the unit in any case.

        A unit that was up starts by its loaded definition: a changed file counts after a reload.
        """
        if self._is_closing:
            return (say.shutting_down(unit),)
        self._load(keeping=self._up())
        stopping = stopped_with(self._files(), unit) & self._up()
        await self._stop_all(stopping)
        problems = await self._start(unit)
        rest = waves(self._files(), stopping - {unit})
        others = [await self._start(name) for wave in rest for name in wave]
        return (*problems, *(problem for some in others for problem in some))

    def reset_failed(self, units: Collection[str]) -> None:
        """Forget that units failed, and how often they were started lately."""
        for unit in units:
            if runner := self._runners.get(unit):
                runner.forgive()

    async def close(self) -> None:
        """Stop everything, what was ordered later first; nothing can be started any more."""
        self._is_closing = True
        await self._stop_all(self._up())

    def states(self, units: Collection[str]) -> tuple[UnitState, ...]:
        """Report on units, on all that are known if none is named."""
        names = units or self._units.keys() | self._runners.keys()
        return tuple(self._state(name) for name in sorted(names))

    def exited(self, pid: int, code: int) -> None:
        """Pass on the end of a process to the service it belongs to."""
        for runner in self._runners.values():
            runner.exited(pid, code)

    async def _start(self, unit: str) -> Problems:
        if unit not in self._units:
            return (say.unit_not_found(unit, str(self._folder), self._units),)
        files = self._files()
        starting = pulled_in(files, unit)
        for other in sorted(conflicting(files, starting) & self._up()):
            await self.stop(other)
        outcome: dict[str, Problems] = {}
        for wave in waves(files, starting):
            results = await asyncio.gather(*(self._start_one(name, outcome) for name in wave))
            outcome |= dict(zip(wave, results, strict=True))
        for problem in (problem for name in sorted(outcome) for problem in outcome[name]):
            LOG.warning("%s: %s", problem.address, problem.detail)
        return outcome[unit]

    async def _stop_all(self, units: Collection[str]) -> None:
        for wave in reversed(waves(self._files(), units)):
            await asyncio.gather(*(self._stop_one(name) for name in wave))

    async def _start_one(self, unit: str, outcome: Mapping[str, Problems]) -> Problems:
        loaded = self._units[unit]
        failed = [name for name in loaded.file.names("Requires", "BindsTo") if outcome.get(name)]
        if failed:
            return (say.dependency_failed(unit, failed[0]),)
        if unit.endswith(".target"):
            self._targets.add(unit)
            return loaded.problems
        runner, problems = self._runner(loaded)
        if runner is None:
            return problems
        if missing := self._missing(runner):
            return missing
        runner.feed(StartAsked())
        state = await runner.settled()
        if state.phase in (Phase.FAILED, Phase.AUTO_RESTART):
            return (say.unit_failed(unit, result=state.result, exit_status=state.exit_status),)
        return (say.job_cancelled(unit),) if state.phase is Phase.DEAD and state.is_stop_asked else ()

    def _missing(self, runner: ServiceRunner) -> Problems:
        is_up = runner.state.phase.active is ActiveState.ACTIVE
        absent = () if is_up else (path for path in runner.spec.assert_paths if not Path(path).exists())
        return tuple(say.assertion_failed(runner.spec.unit, path) for path in absent)

    async def _stop_one(self, unit: str) -> None:
        self._targets.discard(unit)
        if runner := self._runners.get(unit):
            runner.feed(StopAsked())
            await runner.settled()

    def _runner(self, loaded: LoadedUnit) -> tuple[ServiceRunner | None, Problems]:
        """Give the runner of a service, made or brought up to date from its file; None where that cannot be run."""
        name = loaded.file.name
        spec, found = read_service(loaded.file, specifiers(name, root=self._root))
        problems: tuple[Diagnostic, ...] = (*loaded.problems, *found)
        if problems:
            return None, problems
        if name not in self._runners:
            log = self._root / self._layout.logs / log_file(name)
            self._runners[name] = ServiceRunner(spec, self._processes, log_file=log, base=self._environment)
        self._runners[name].spec = spec
        return self._runners[name], ()

    def _load(self, *, keeping: Collection[str]) -> None:
        up = self._up()
        fresh = read_units(self._folder, masks=self._root / self._layout.former_units)
        # A unit whose file is gone stays known as long as it runs: it must be possible to stop it.
        kept = {*keeping, *(up - fresh.keys())}
        self._units = {**fresh, **{name: unit for name, unit in self._units.items() if name in kept}}
        for name in (self._runners.keys() & fresh.keys()) - set(keeping):
            self._runner(self._units[name])

    def _linked_folder(self) -> Path:
        return (self._root / self._layout.units).resolve()

    def _files(self) -> dict[str, UnitFile]:
        return {name: unit.file for name, unit in self._units.items()}

    def _up(self) -> frozenset[str]:
        down = (Phase.DEAD, Phase.FAILED)
        running = {name for name, runner in self._runners.items() if runner.state.phase not in down}
        return frozenset(running | self._targets)

    def _state(self, unit: str) -> UnitState:
        if unit in self._targets:
            state = UnitState(unit, ActiveState.ACTIVE, sub="active")
        elif runner := self._runners.get(unit):
            state = runner.report
        else:
            return UnitState(unit, ActiveState.INACTIVE, sub="dead")
        on_disk = read_unit(self._linked_folder(), unit)
        loaded = self._units.get(unit)
        is_same = on_disk is not None and loaded is not None and on_disk.text == loaded.text
        return replace(state, needs_reload=state.is_active and not is_same)
