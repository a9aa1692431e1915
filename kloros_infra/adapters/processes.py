"""The embedded supervisor, asked over its socket and started behind when it is needed."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from kloros_infra.adapters.service_problems import (
    LOG_LINES,
    job_not_finished,
    no_answer,
    supervisor_not_started,
    with_last_lines,
)
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import StepFailedError, UnreachableError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.supervision import BEGINNING, SOCKET_NAME, Operation, Reply, Request, log_file

POLL_S = 0.02
QUICK_ANSWER_S = 10.0
TAIL_BYTES = 64 * 1024
# The supervisor lives on after us: it gets what it needs to run, and none of the caller's secrets.
PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH")


class SupervisorClient:
    """The service manager of one root: `reload`, `stop` and `states` never start a supervisor, `start` does."""

    name = "supervisor"

    def __init__(self, root: Path, *, start_timeout_s: float = 20.0, job_timeout_s: float = 900.0) -> None:
        self._root = root.resolve()
        self._folder = self._root / Layout().run
        self._start_timeout_s = start_timeout_s
        self._job_timeout_s = job_timeout_s

    def reload(self) -> None:
        """Have the unit files read again; a supervisor that does not run will read them when it starts."""
        self._ask(Request(op=Operation.RELOAD))

    def start(self, unit: str) -> None:
        """Start a unit and what it wants, and the supervisor itself where none runs."""
        self._do(Operation.START, unit)

    def restart(self, unit: str) -> None:
        """Stop a unit and start it by its present file."""
        self._do(Operation.RESTART, unit)

    def stop(self, unit: str) -> None:
        """Stop a unit; nothing is to do for one that does not run."""
        self._ask(Request(op=Operation.STOP, units=(unit,)))

    def reset_failed(self, units: Collection[str]) -> None:
        """Forget failures and start limits; without a supervisor there are none."""
        self._ask(Request(op=Operation.RESET_FAILED, units=tuple(sorted(units))))

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        """Report on units; without a supervisor nothing runs."""
        if not units:
            return {}
        reply = self._ask(Request(op=Operation.STATES, units=tuple(sorted(units))))
        known = () if reply is None else reply.states
        inactive = {unit: UnitState(unit, ActiveState.INACTIVE, sub="dead") for unit in sorted(units)}
        return {**inactive, **{state.unit: state for state in known}}

    def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        """Read the last lines that a unit wrote, whether or not a supervisor runs."""
        file = self._root / Layout().logs / log_file(unit)
        try:
            with file.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ()
        written = text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
        return tuple(line for line in written if not line.startswith(BEGINNING))[-lines:] if text else ()

    def pid(self) -> int | None:
        """Give the supervisor's process, None when none runs."""
        reply = self._ask(Request(op=Operation.PING))
        return None if reply is None else reply.pid

    def shutdown(self) -> None:
        """Stop all units and the supervisor, and wait until it is gone."""
        if reply := self._ask(Request(op=Operation.SHUTDOWN)):
            await_end(reply.pid)

    def _do(self, operation: Operation, unit: str) -> None:
        request = Request(op=operation, units=(unit,))
        if self._ask(request) is None:
            self._start_supervisor()
            if self._ask(request) is None:
                raise UnreachableError((self._lost("it ended right after its start"),))

    def _ask(self, request: Request) -> Reply | None:
        """Put a question and wait for the answer; None when no supervisor runs. Raise what it says went wrong."""
        is_job = request.op in (Operation.START, Operation.STOP, Operation.RESTART, Operation.SHUTDOWN)
        timeout_s = self._job_timeout_s if is_job else QUICK_ANSWER_S
        try:
            with self._connection(timeout_s) as connection, connection.makefile("rb") as answers:
                connection.sendall(request.model_dump_json().encode() + b"\n")
                line = answers.readline()
                if not line:
                    raise ConnectionResetError("it ended before it answered")
                reply = Reply.model_validate_json(line)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except TimeoutError:
            unit = " ".join(request.units)
            raise StepFailedError((job_not_finished(unit, f"took longer than {timeout_s:.0f} s"),)) from None
        except (OSError, ValidationError) as error:
            raise UnreachableError((self._lost(str(error)),)) from error
        if reply.problems:
            raise StepFailedError(self._explained(reply))
        return reply

    def _explained(self, reply: Reply) -> Iterator[Diagnostic]:
        for problem in reply.problems:
            failed = problem.code == "KI604"
            yield with_last_lines(problem, self.log_tail(problem.address, LOG_LINES)) if failed else problem

    @contextmanager
    def _connection(self, timeout_s: float) -> Iterator[socket.socket]:
        """Connect; unix(7) allows 107 bytes for the path, so the folder is named by its number."""
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                # connect(2): with many waiting before us, a socket that does not block would fail with EAGAIN at once.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(QUICK_ANSWER_S), 0))
                connection.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
                connection.settimeout(timeout_s)
                yield connection
        finally:
            os.close(folder)

    def _start_supervisor(self) -> None:
        """Start it detached; it returns once it takes requests, or says on stderr why it cannot."""
        command = (sys.executable, "-P", "-m", "kloros_infra.supervisor", "--detach", "--root", str(self._root))
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            done = subprocess.run(
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=self._start_timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise UnreachableError((self._not_started(f"not ready after {self._start_timeout_s:.0f} s."),)) from None
        # Another command may have started one at the same moment: that one will do.
        if done.returncode != 0 and not self._answers_soon():
            reason = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
            raise UnreachableError((self._not_started(reason),))

    def _answers_soon(self) -> bool:
        deadline = time.monotonic() + 2
        while (pid := self.pid()) is None and time.monotonic() < deadline:
            time.sleep(POLL_S)  # the pause between two polls of a condition with a deadline
        return pid is not None

    def _not_started(self, reason: str) -> Diagnostic:
        return supervisor_not_started(str(self._root), reason)

    def _lost(self, reason: str) -> Diagnostic:
        log = self._root / Layout().logs / log_file("supervisor")
        return no_answer(f"The supervisor of {self._root}", reason, f"Its log is {log}; run the command again.")


def may_be_asked(root: Path) -> bool:
    """Say whether this user may ask a root's supervisor: its owner alone can enter the folder of its socket."""
    folder = root / Layout().run
    return not folder.exists() or os.access(folder, os.X_OK, effective_ids=True)


def await_end(pid: int) -> None:
    """Wait until a process that is about to end has ended; pidfd_open(2): its handle then becomes readable."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([handle], [], [], QUICK_ANSWER_S)
    finally:
        os.close(handle)
