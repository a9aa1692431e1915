"""A file that says which processes run, so that the next supervisor can end what an earlier one left behind.

The guards (see `processes`) already end everything when a supervisor dies; this is for the case that they were killed
with it. A pid alone says nothing after a while, so each is kept with its start time and the boot it belongs to.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

POLL_S = 0.01
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class RecordedProcess(BaseModel):
    """One process of ours and the process group it belongs to."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pid: PositiveInt
    start_ticks: int
    group: PositiveInt

    @property
    def is_running(self) -> bool:
        return start_ticks(self.pid) == self.start_ticks


class ProcessRecord(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    boot_id: str
    processes: tuple[RecordedProcess, ...]


def write_record(file: Path, groups: Mapping[int, int]) -> None:
    """Replace the record; `groups` maps each pid to its process group. A reboot ends them all, so no fsync."""
    started = ((pid, start_ticks(pid), group) for pid, group in sorted(groups.items()))
    processes = [
        {"pid": pid, "start_ticks": ticks, "group": group} for pid, ticks, group in started if ticks is not None
    ]
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps({"boot_id": BOOT_ID.read_text().strip(), "processes": processes}))
    new.replace(file)


def read_record(file: Path) -> tuple[RecordedProcess, ...]:
    """Read the processes that still run; none where there is no record of this boot."""
    try:
        record = ProcessRecord.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return ()
    is_this_boot = record.boot_id == BOOT_ID.read_text().strip()
    return tuple(process for process in record.processes if is_this_boot and process.is_running)


def end_leftovers(file: Path, *, timeout_s: float = 5.0) -> int:
    """Kill what an earlier supervisor left behind; say how many processes that were."""
    leftovers = read_record(file)
    for process in leftovers:
        # A recorded member that lives makes the number of its group ours.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.group, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while any(process.is_running for process in leftovers) and time.monotonic() < deadline:
        time.sleep(POLL_S)  # the pause between two polls: nobody tells us of the end of processes that are not ours
    return len(leftovers)


def start_ticks(pid: int) -> int | None:
    """Give a process's start time in clock ticks since boot, None when it is gone; proc(5), field 22 of stat."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may hold blanks and brackets itself: what follows the last one is plain.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in ("Z", "X") else int(fields[18])
