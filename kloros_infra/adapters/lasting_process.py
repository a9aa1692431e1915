"""Processes that outlive the one that starts them, and its terminal or sandbox: nobody waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

SYSTEMD_RUN_S = 20.0


def own_words(*words: str) -> tuple[str, ...]:
    """Give the command line of this program with other words; not by its launcher, which an apply may replace."""
    return (sys.executable, "-P", "-m", "kloros_infra", *words)


def unit_words(
    command: tuple[str, ...], description: str, *, unit: str | None = None, waits: bool = True
) -> tuple[str, ...]:
    """Give what starts a command as a unit; with Type=exec a program that cannot be run is told to who waits."""
    named = (f"--unit={unit}",) if unit else ()
    blocking = () if waits else ("--no-block",)
    words = ("systemd-run", "--quiet", "--collect", "--property=Type=exec", *blocking, *named)
    return (*words, f"--description={description}", "--", *command)


def run_as_unit(command: tuple[str, ...], description: str, *, unit: str | None = None, waits: bool = True) -> bool:
    """Start a command as a unit of systemd, which keeps it over a reload (systemd-run(1)); say whether it runs.

    Who does not wait hears whether its start is queued. Of units of one name no second is started beside the first.
    """
    words, nothing = unit_words(command, description, unit=unit, waits=waits), subprocess.DEVNULL
    try:
        done = subprocess.run(words, stdin=nothing, capture_output=True, check=False, timeout=SYSTEMD_RUN_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def spawn(command: tuple[str, ...], log: Path) -> None:
    """Start a command in a session of its own, which appends to a log what it says.

    One that ends before this process does is reaped, so none is left defunct (wait(2)).
    """
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    files = ((0, os.devnull, os.O_RDONLY, 0), (1, str(log), append, 0o640), (2, str(log), append, 0o640))
    actions = [(os.POSIX_SPAWN_OPEN, *file) for file in files]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)
    threading.Thread(target=os.waitpid, args=(pid, 0), name=f"reap {pid}", daemon=True).start()
