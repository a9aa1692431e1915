"""Child processes that never outlive the supervisor, whatever ends it.

Each running service has a process group of its own, led by a guard: a shell that waits for the end of a pipe whose
other end only the supervisor holds. When the supervisor dies, by SIGKILL too, the kernel closes the pipe and the guard
kills its group, and so itself. The guard is there before the service and as the group's leader keeps its number from
being used again. A process that leaves the group is covered by PR_SET_PDEATHSIG if we started it; one that a service
started and that leaves the group is out of reach: without a cgroup of our own there is no way to find it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.ir.supervision import beginning_of
from kloros_infra.supervisor.process_record import write_record

LOG = logging.getLogger(__name__)
# `read` returns at the end of the pipe; `kill 0` means the own process group (POSIX kill(1)).
GUARD = ("/bin/sh", "-c", "trap '' HUP INT QUIT TERM; read -r _; kill -s KILL 0")
STDOUT = 1
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Launch:
    """A program, and the surroundings it runs in."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    umask: int


class Processes:
    """Starts, signals and reaps; to be used on the main thread of a process without others.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, and code between fork and exec is safe only where no
    other thread may hold a lock.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._groups: dict[int, int] = {}
        self._guard_end, self._own_end = os.pipe()
        # What a service's children leave behind comes to us, not to a process 1 that may never reap it: a group with
        # an unreaped member would never count as empty.
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)

    def open_group(self) -> int:
        """Make an empty process group with a guard; raise OSError when no process can be made."""
        guard = subprocess.Popen(
            GUARD,
            stdin=self._guard_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            process_group=0,
        )
        self._keep(guard, guard.pid)
        return guard.pid

    def spawn(self, launch: Launch, *, group: int, log: int) -> int:
        """Run a program in a group, its output appended to an open file; raise OSError when it cannot be executed."""
        child = subprocess.Popen(
            launch.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=launch.folder,
            env=dict(launch.environment),
            umask=launch.umask,
            process_group=group,
            preexec_fn=begin,  # noqa: PLW1509 - there are no threads, and only prctl(2) and write(2) are called
        )
        self._keep(child, group)
        return child.pid

    def reap(self, on_exit: Callable[[int, int], None]) -> None:
        """Collect every process that has ended; `on_exit` takes its pid and its code, negative for a signal."""
        ended: list[tuple[int, int]] = []
        with suppress(ChildProcessError):  # there is no child at all
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                ended.append((found[0], os.waitstatus_to_exitcode(found[1])))
        for pid, code in ended:
            if child := self._children.pop(pid, None):
                child.returncode = code
            self._groups.pop(pid, None)
        if ended:
            self._write_record()
        for pid, code in ended:
            on_exit(pid, code)

    def _keep(self, child: subprocess.Popen[bytes], group: int) -> None:
        self._children[child.pid] = child
        self._groups[child.pid] = group
        self._write_record()

    def _write_record(self) -> None:
        try:
            write_record(self._record, self._groups)
        except OSError as error:  # a full disk ends no service: the record is the last of three nets
            LOG.warning("cannot write %s: %s", self._record, error)


def signal_process(pid: int, number: signal.Signals) -> None:
    """Signal one process of ours; nothing happens when it has ended and was reaped."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal every process of a group."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def is_group_empty(group: int) -> bool:
    """Say whether nothing of a group is left, not even an unreaped process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # a member changed its user
        return False
    return False


def begin() -> None:
    """Have the kernel kill this process when the supervisor ends; say in its log where its own lines begin.

    Nobody else could: before the fork its number is not known, and after the exec it writes.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    with suppress(OSError):
        os.write(STDOUT, f"{beginning_of(os.getpid())}\n".encode())
