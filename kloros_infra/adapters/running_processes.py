"""What a running process was started with, from /proc: see proc(5), and cgroups(7) for its place in the tree."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from kloros_infra.ir.running import RunningProcess
from kloros_infra.planner.redaction import is_secret

UNIFIED, NAMED = "0::", ":name=systemd:"
"""The line of /proc/PID/cgroup that systemd places a process by: of cgroup v2, or of its own tree under v1."""


class ProcProcesses:
    """Reads processes of this PID namespace."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def running(
        self, pid: int, *, names: Collection[str] = (), prefixes: tuple[str, ...] = ()
    ) -> RunningProcess | None:
        """Give a process, None when it is gone.

        Of its variables it tells those with these names or prefixes; one whose name is that of a secret is left out,
        whoever asks.
        """
        folder = self._proc / str(pid)
        try:
            started_ticks = _started_ticks(folder)
            if started_ticks is None:
                return None
            process = RunningProcess(
                pid=pid,
                argv=tuple(_strings(folder / "cmdline")),
                environment=_environment(folder / "environ", frozenset(names), prefixes),
                started_s=started_ticks / os.sysconf("SC_CLK_TCK"),
                cgroup=_cgroup(folder),
            )
            # Another process may have taken the number meanwhile.
            return process if _started_ticks(folder) == started_ticks else None
        except (FileNotFoundError, ProcessLookupError):
            return None


def _environment(file: Path, names: frozenset[str], prefixes: tuple[str, ...]) -> Mapping[str, str] | None:
    try:
        variables = [text.partition("=") for text in _strings(file)]
    except PermissionError:
        return None
    return {
        name: value
        for name, _, value in variables
        if (name in names or name.startswith(prefixes)) and not is_secret(name)
    }


def _strings(file: Path) -> Iterator[str]:
    """Read strings that end in a zero each; bytes that are no UTF-8 are kept as they are."""
    yield from file.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]


def _started_ticks(folder: Path) -> int | None:
    """Read field 22 of stat; a process that has ended and not been waited for has started nothing."""
    # The name in brackets may hold blanks and brackets itself: what follows the last one is plain.
    state, *fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return None if state in ("Z", "X") else int(fields[18])


def _cgroup(folder: Path) -> str:
    for line in (folder / "cgroup").read_text(errors="replace").splitlines():
        if line.startswith(UNIFIED):
            return line.removeprefix(UNIFIED)
        if NAMED in line:
            return line.partition(NAMED)[2]
    return ""
