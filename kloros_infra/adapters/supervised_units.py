"""Starts and stops units for the router through the embedded supervisor of its root, on its loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from kloros_infra.adapters.processes import QUICK_ANSWER_S, SupervisorClient, may_be_asked
from kloros_infra.adapters.service_problems import LOG_LINES, job_not_finished, no_answer
from kloros_infra.errors import UnitError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.seen_unit import SeenUnit, seen_unit
from kloros_infra.ir.supervision import SOCKET_NAME, Operation, Reply, Request, log_file

LONGEST_ANSWER_BYTES = 16 * 1024 * 1024
JOBS = (Operation.START, Operation.STOP, Operation.RESTART)


def is_supervised(root: Path) -> bool:
    """Say whether a supervisor serves a root, as it does when it has started the router."""
    return may_be_asked(root) and (root / Layout().run / SOCKET_NAME).exists()


class SupervisedUnits:
    """Implements `daemon.ports.UnitControl`; whoever asks is a unit of that supervisor's itself, so none is started."""

    def __init__(self, root: Path, *, job_timeout_s: float = 300.0) -> None:
        self._root = root.resolve()
        self._logs = SupervisorClient(self._root)
        self._job_timeout_s = job_timeout_s

    async def start(self, unit: str) -> None:
        """Start a unit and what it wants; the supervisor forgives earlier failures."""
        await self._ask(Operation.START, unit)

    async def stop(self, unit: str) -> None:
        """Stop a unit; nothing is to do for one that does not run."""
        await self._ask(Operation.STOP, unit)

    async def restart(self, unit: str) -> None:
        """Kill a unit's process and start it again: what hangs would take SIGTERM for as long as it may."""
        pid = (await self.states((unit,)))[unit].pid
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._ask(Operation.RESTART, unit)

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        """Report on units; one that the supervisor does not know is down."""
        if not units:
            return {}
        reply = await self._ask(Operation.STATES, *sorted(units))
        return {state.unit: seen_unit(state.active, state.main_pid, state.sub) for state in reply.states}

    async def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        """Read the last lines that a unit wrote."""
        return await asyncio.to_thread(self._logs.log_tail, unit, lines)

    async def _ask(self, operation: Operation, *units: str) -> Reply:
        """Put a question and wait for the answer; raise UnitError with what it says went wrong."""
        timeout_s = self._job_timeout_s if operation in JOBS else QUICK_ANSWER_S
        request = Request(op=operation, units=units)
        try:
            async with asyncio.timeout(timeout_s), self._connection() as (reader, writer):
                writer.write(request.model_dump_json().encode() + b"\n")
                reply = Reply.model_validate_json(await reader.readuntil(b"\n"))
        except TimeoutError:
            raise UnitError(job_not_finished(" ".join(units), f"took longer than {timeout_s:g} s")) from None
        except (OSError, EOFError, ValidationError, asyncio.LimitOverrunError) as error:
            log = self._root / Layout().logs / log_file("supervisor")
            named, hint = f"The supervisor of {self._root}", f"Its log is {log}."
            raise UnitError(no_answer(named, str(error) or "it ended before it answered", hint)) from error
        if reply.problems:
            problem = reply.problems[0]
            has_log = problem.code == "KI604"
            raise UnitError(problem, last_lines=await self.log_tail(problem.address, LOG_LINES) if has_log else ())
        return reply

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect; unix(7) allows 107 bytes for the path, so the folder is named by its number."""
        folder = os.open(self._root / Layout().run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{folder}/{SOCKET_NAME}"
            reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_ANSWER_BYTES)
        finally:
            os.close(folder)
        try:
            yield reader, writer
        finally:
            writer.close()
