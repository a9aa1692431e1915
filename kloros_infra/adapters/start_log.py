"""What a unit's present process has written: from systemd's journal, or from the embedded supervisor's files."""

from __future__ import annotations

import os
import subprocess
from itertools import islice
from pathlib import Path

from kloros_infra.adapters.systemd import run_journalctl
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import beginning_of, log_file

MAX_LINES = 20_000
"""llama-server says what it loaded in its first few hundred lines."""
TAIL_BYTES = 4 * 2**20


class JournalStartLog:
    """Reads the journal of this boot, where every line is kept with the process that wrote it."""

    def lines(self, unit: str, main_pid: int) -> tuple[str, ...]:
        """Give the first lines of a process; none where the journal cannot be read."""
        # What was written may still be on its way to the journal.
        run_journalctl("--sync")
        process = (f"_SYSTEMD_UNIT={unit}", f"_PID={main_pid}")
        command = ("journalctl", "-q", "-b", "--no-pager", "-o", "cat", *process)
        nowhere = subprocess.DEVNULL
        try:
            with subprocess.Popen(command, stdin=nowhere, stdout=subprocess.PIPE, stderr=nowhere) as journal:
                found = tuple(islice(journal.stdout or (), MAX_LINES))
                journal.terminate()
        except OSError:
            return ()
        return tuple(line.decode(errors="replace").rstrip("\n") for line in found)


class FileStartLog:
    """Reads the files of one root's supervisor: each holds what a unit's processes wrote, one after the other.

    Between them the supervisor says which one begins.
    """

    def __init__(self, root: Path) -> None:
        self._logs = root / Layout().logs

    def lines(self, unit: str, main_pid: int) -> tuple[str, ...]:
        """Give the lines of a process; none where its beginning is not found near the end of the file."""
        try:
            with (self._logs / log_file(unit)).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ()
        begun = [index for index, line in enumerate(lines) if line == beginning_of(main_pid)]
        return tuple(lines[begun[-1] + 1 :]) if begun else ()
