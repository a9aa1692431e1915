"""The files that hold what services write: appended to by the services themselves, kept small at each start."""

from __future__ import annotations

import os
from pathlib import Path

MAX_LOG_BYTES = 8 * 2**20
UMASK = 0o022
"""The umask of whoever started the supervisor does not close folders to others; services have a setting for theirs."""


def open_log(file: Path, *, is_first: bool) -> int:
    """Open a unit's log for appending; at a service's start a large one becomes `.1`, and the `.1` before is gone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if is_first and file.exists() and file.stat().st_size > MAX_LOG_BYTES:
        file.replace(file.with_name(file.name + ".1"))
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def note(log: int, text: str) -> None:
    """Add a line of our own, where a reader of the log would otherwise look in vain for the reason."""
    os.write(log, f"kloros-infra: {text}\n".encode(errors="surrogateescape"))
