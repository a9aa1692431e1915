"""End processes at once; signal(7)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress


def kill(pids: Iterable[int]) -> None:
    """End processes without letting them finish anything; those that are gone, or another user's, are left out."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
