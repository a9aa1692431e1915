"""An apply that waits to be confirmed: a file that says until when, and to which generation it is undone otherwise.

| file                              | written by               | ends by                                             |
|-----------------------------------|--------------------------|-----------------------------------------------------|
| none                              |                          | `begin`, before the apply                           |
| confirm.json without a deadline   | `begin`                  | `await_answer`; an apply that was killed is undone  |
| confirm.json with a deadline      | `await_answer`           | `confirm`; `claim`, once it is over                 |
| confirm.json of another boot      | the machine went down    | `confirm`; `claim`: it counts as over               |
| confirm.undoing                   | `claim`, for one alone   | `settle`, once undone or when a person decides      |

Under systemd a unit that belongs to no generation stands beside it: after a boot it starts what undoes, whatever the
unconfirmed generation holds. Below a folder nothing runs after a boot; there the next command tells of it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kloros_infra.adapters.lasting_process import own_words, run_as_unit, spawn
from kloros_infra.adapters.synced_files import make_folders, remove, rename, replace
from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.compiler.systemd_syntax import quoted_word
from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.layout import Layout

WAITING = "confirm.json"
UNDOING = "confirm.undoing"
LOG = "confirm.log"
UNDO = "Undo an apply that is not confirmed"
BOOT_UNIT = f"{Layout().former_units}/kloros-unconfirmed.service"
BOOT_LINK = f"{Layout().former_units}/multi-user.target.wants/kloros-unconfirmed.service"


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

    @property
    def is_due(self) -> bool:
        """Say whether it is to be undone, unless the apply that would say how long it waits is still at work."""
        return self.left_s is None or self.is_over


class Confirmation:
    """The file of one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / Layout().state

    def read(self) -> Waiting | None:
        """Say what waits; None when nothing does. After another boot the time is over."""
        waiting = _spec(self._folder / WAITING)
        if waiting is not None and waiting.boot_id == boot_id():
            return Waiting(waiting.previous, None if waiting.deadline_s is None else waiting.deadline_s - _now())
        over = waiting or _spec(self._folder / UNDOING)
        return None if over is None else Waiting(over.previous, 0.0)

    def begin(self, previous: int | None, manager: str = "") -> None:
        """Note, before an apply, where to go back to; under systemd also for a boot that comes before the answer."""
        if manager == "systemd":
            self._prepare_boot()
        self._write(WaitingSpec(boot_id=boot_id(), previous=previous, deadline_s=None))

    def await_answer(self, previous: int | None, within_s: float) -> None:
        """Note that the apply has ended and the time runs."""
        self._write(WaitingSpec(boot_id=boot_id(), previous=previous, deadline_s=_now() + within_s))

    def confirm(self) -> bool:
        """Take the file away; say whether it was there: a rename or removal succeeds for one process alone."""
        was_there = remove(self._folder / WAITING)
        if was_there:
            self._forget_boot()
        return was_there

    def claim(self) -> bool:
        """Take the file for undoing; say whether there is anything to undo. The caller holds the apply lock."""
        return rename(self._folder / WAITING, self._folder / UNDOING) or (self._folder / UNDOING).exists()

    def settle(self) -> None:
        """Take away whatever waits: it was undone, or somebody who reaches the machine has gone elsewhere."""
        remove(self._folder / WAITING)
        remove(self._folder / UNDOING)
        self._forget_boot()

    def _prepare_boot(self) -> None:
        """Put the unit there that a boot starts; Type=exec, as the boot need not wait until everything is undone."""
        unit, link = self._root / BOOT_UNIT, self._root / BOOT_LINK
        make_folders(link.parent)
        files = (f"ConditionPathExists=|{self._folder / name}" for name in (WAITING, UNDOING))
        words = " ".join(map(quoted_word, self.watcher_words("systemd")))
        lines = ("[Unit]", f"Description={UNDO}", *files, "", "[Service]", "Type=exec", f"ExecStart=:{words}")
        replace(unit, TextFile("\n".join(lines) + "\n"))
        replace(link, Link(f"../{unit.name}"))

    def _forget_boot(self) -> None:
        for file in (BOOT_LINK, BOOT_UNIT):
            remove(self._root / file)
        with suppress(OSError):  # it holds links of others, or was never made
            (self._root / BOOT_LINK).parent.rmdir()

    def start_watcher(self, manager: str) -> None:
        """Start a process that outlives this one and its terminal; under systemd a unit, which outlives the session.

        systemd keeps such a unit over a reload (systemd-run(1), "transient"). A reboot ends it.
        """
        command = self.watcher_words(manager)
        if manager != "systemd" or not run_as_unit(command, UNDO):
            spawn(command, self._folder / LOG)

    def watcher_words(self, manager: str) -> tuple[str, ...]:
        """Give the command line of the process that watches."""
        return own_words("watch_confirmation", "--root", str(self._root), "--manager", manager)

    def _write(self, spec: WaitingSpec) -> None:
        replace(self._folder / WAITING, TextFile(spec.model_dump_json() + "\n"))


def _spec(file: Path) -> WaitingSpec | None:
    try:
        return WaitingSpec.model_validate_json(file.read_text())
    except (FileNotFoundError, ValidationError):
        return None


def _now() -> float:
    """Give seconds that go on while the machine sleeps, and that nobody sets; clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
