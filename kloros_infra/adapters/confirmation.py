"""An apply that waits to be confirmed: a file that says until when, and to which generation it is undone otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kloros_infra.adapters.synced_files import create, sync_folder
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WAITING = "confirm.json"
UNDOING = "confirm.undoing"
LOG = "confirm.log"
SYSTEMD_RUN_S = 20.0


class WaitingSpec(BaseModel):
    """The file as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    boot_id: str
    previous: int | None
    deadline_s: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is undone to which generation; without a deadline the apply itself has not ended."""

    previous: int | None
    left_s: float | None

    @property
    def is_over(self) -> bool:
        return self.left_s is not None and self.left_s <= 0


class Confirmation:
    """The file of one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / Layout().state

    def read(self) -> Waiting | None:
        """Say what waits; None when nothing does. After another boot the time is over."""
        try:
            spec = WaitingSpec.model_validate_json((self._folder / WAITING).read_text())
        except (FileNotFoundError, ValidationError):
            return None
        if spec.boot_id != _boot_id():
            return Waiting(spec.previous, 0.0)
        return Waiting(spec.previous, None if spec.deadline_s is None else spec.deadline_s - _now())

    def begin(self, previous: int | None) -> None:
        """Note, before an apply, where to go back to."""
        self._write(WaitingSpec(boot_id=_boot_id(), previous=previous, deadline_s=None))

    def await_answer(self, previous: int | None, within_s: float) -> None:
        """Note that the apply has ended and the time runs."""
        self._write(WaitingSpec(boot_id=_boot_id(), previous=previous, deadline_s=_now() + within_s))

    def confirm(self) -> bool:
        """Take the file away; say whether it was there: a rename or removal succeeds for one process alone."""
        return _gone(self._folder / WAITING)

    def claim(self) -> bool:
        """Take the file for undoing; say whether it was still there."""
        try:
            (self._folder / WAITING).rename(self._folder / UNDOING)
        except FileNotFoundError:
            return False
        return True

    def finish(self) -> None:
        """Note that it was undone."""
        _gone(self._folder / UNDOING)

    def start_watcher(self, manager: str) -> None:
        """Start a process that outlives this one and its terminal; under systemd a unit, which outlives the session."""
        words = ("-P", "-m", "kloros_infra", "watch_confirmation", "--root", str(self._root), "--manager", manager)
        command = (sys.executable, *words)
        if manager == "systemd" and _run_as_unit(command):
            return
        self._spawn(command)

    def _spawn(self, command: tuple[str, ...]) -> None:
        """Start a process in a session of its own, which nobody waits for."""
        log = str(self._folder / LOG)
        append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        files = ((0, os.devnull, os.O_RDONLY, 0), (1, log, append, 0o640), (2, log, append, 0o640))
        actions = [(os.POSIX_SPAWN_OPEN, *file) for file in files]
        os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)

    def _write(self, spec: WaitingSpec) -> None:
        fresh = self._folder / f".{WAITING}.kloros-tmp"
        fresh.unlink(missing_ok=True)
        create(fresh, TextFile(spec.model_dump_json() + "\n"))
        fresh.replace(self._folder / WAITING)
        sync_folder(self._folder)


def _gone(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


def _run_as_unit(command: tuple[str, ...]) -> bool:
    words = ("systemd-run", "--quiet", "--collect", "--description=Undo an apply that is not confirmed", *command)
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SYSTEMD_RUN_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _now() -> float:
    """Give seconds that go on while the machine sleeps, and that nobody sets; clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    return BOOT_ID.read_text().strip()
