"""Git, asked which commit a folder is at; gitrevisions(7)."""

from __future__ import annotations

import subprocess
from pathlib import Path

TIMEOUT_S = 5.0


def commit_of(folder: Path) -> str:
    """Give the commit of the work tree that a folder is in, marked where files differ; empty outside of any."""
    command = ("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
