"""One service: holds its state, carries out what the state machine asks for, and tells it what happened."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.supervisor.processes import Launch, Processes, is_group_empty, signal_group, signal_process
from kloros_infra.supervisor.service import (
    Effect,
    EmptyGroup,
    Event,
    Exited,
    GroupEmptied,
    Phase,
    Role,
    ServiceState,
    Spawn,
    Spawned,
    SpawnFailed,
    Terminate,
    Tick,
    forgiven,
    step,
)
from kloros_infra.supervisor.service_log import note, open_log
from kloros_infra.supervisor.service_spec import KillMode, ServiceSpec

LOG = logging.getLogger(__name__)
EXIT_EXEC = 203  # systemd.exec(5), "Process Exit Codes": the program could not be executed
EXIT_STDOUT = 209  # likewise: its output could not be set up
GROUP_POLL_S = 0.005


class ServiceRunner:
    """Drives one service; lives on the loop's thread."""

    def __init__(self, spec: ServiceSpec, processes: Processes, *, log_file: Path, base: Mapping[str, str]) -> None:
        self.spec = spec
        self.state = ServiceState()
        self._processes = processes
        self._log_file = log_file
        self._base = base
        self._group: int | None = None
        self._events: deque[Event] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[ServiceState]] = []
        self._has_run = False

    @property
    def report(self) -> UnitState:
        """Give the state as the service manager's port has it."""
        return UnitState(
            unit=self.spec.unit,
            active=self.state.phase.active,
            sub=self.state.phase.value,
            main_pid=self.state.main_pid,
            result=self.state.result.value,
            exit_status=self.state.exit_status,
            has_ended=self._has_run and self.state.phase is Phase.DEAD,
        )

    def feed(self, event: Event) -> None:
        """Take an event and everything that follows from it at once."""
        is_outermost = not self._events
        self._events.append(event)
        while is_outermost and self._events:
            before = self.state.phase
            self.state, effects = step(self.spec, self.state, self._events[0], now=asyncio.get_running_loop().time())
            if self.state.phase is not before:
                LOG.info("%s: %s → %s (%s)", self.spec.unit, before, self.state.phase, self.state.result)
                self._has_run = self._has_run or self.state.phase.active is ActiveState.ACTIVE
            for effect in effects:
                self._perform(effect)
            self._events.popleft()
            self._wake_waiting()
        self._set_timer()

    def forgive(self) -> None:
        """Forget earlier starts, and a failure that nothing goes on with."""
        self.state = forgiven(self.state)

    def exited(self, pid: int, code: int) -> None:
        """Take note of the end of a process, if it is one of this service."""
        if pid in (self.state.main_pid, self.state.control_pid):
            self.feed(Exited(pid, code))

    async def settled(self) -> ServiceState:
        """Wait until the present job is over; give the state at that very moment."""
        if self.state.phase.is_settled:
            return self.state
        future: asyncio.Future[ServiceState] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await future

    def _wake_waiting(self) -> None:
        if self.state.phase.is_settled:
            for future in self._waiting:
                if not future.done():  # the one who waited may have been cancelled
                    future.set_result(self.state)
            self._waiting.clear()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        deadline = self.state.deadline
        self._timer = None if deadline is None else loop.call_at(deadline, self.feed, Tick())

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Spawn(role, index):
                self._events.append(self._spawn(role, index))
            case Terminate():
                self._terminate()
            case EmptyGroup():
                self._empty_group()
            case _ as never:
                assert_never(never)

    def _spawn(self, role: Role, index: int) -> Event:
        words = self.spec.commands(role)[index].words
        try:
            log = open_log(self._log_file, is_first=self._group is None)
        except OSError as error:
            LOG.error("%s: cannot open its log: %s", self.spec.unit, error)  # noqa: TRY400 - the line says it all
            return SpawnFailed(EXIT_STDOUT)
        try:
            if self._group is None:
                self._group = self._processes.open_group()
            folder = self.spec.working_directory or "/"
            launch = Launch(words, self._environment(), folder, self.spec.umask)
            return Spawned(self._processes.spawn(launch, group=self._group, log=log))
        except (OSError, ValueError) as error:
            note(log, f"{role} could not be executed: {' '.join(words[:1])}: {error}")
            return SpawnFailed(EXIT_EXEC)
        finally:
            os.close(log)

    def _environment(self) -> Mapping[str, str]:
        """Build what the service sees; raise OSError for an env file that cannot be read.

        systemd.exec(5): files come after Environment= and win, a later file over an earlier one.
        """
        variables = {**self._base, **dict(self.spec.environment)}
        for file in self.spec.environment_files:
            path = Path(file.path)
            if not file.may_be_absent or path.exists():
                variables |= parse_environment_file(path.read_text(errors="surrogateescape"))
        main_pid = {"MAINPID": str(self.state.main_pid)} if self.state.main_pid else {}
        return {**variables, **main_pid}

    def _terminate(self) -> None:
        pid = self.state.main_pid or self.state.control_pid
        if self.spec.kill_mode is KillMode.CONTROL_GROUP and self._group is not None:
            signal_group(self._group, signal.SIGTERM)
        else:
            signal_process(pid, signal.SIGTERM)
        # A stopped process takes no other signal before it goes on (signal(7)); systemd sends both, too.
        signal_process(pid, signal.SIGCONT)

    def _empty_group(self) -> None:
        if self._group is not None and not is_group_empty(self._group):
            signal_group(self._group, signal.SIGKILL)
            asyncio.get_running_loop().call_later(GROUP_POLL_S, self._await_empty_group)
            return
        self._group = None
        self._events.append(GroupEmptied())

    def _await_empty_group(self) -> None:
        if self._group is not None and not is_group_empty(self._group):
            asyncio.get_running_loop().call_later(GROUP_POLL_S, self._await_empty_group)
            return
        self._group = None
        self.feed(GroupEmptied())
