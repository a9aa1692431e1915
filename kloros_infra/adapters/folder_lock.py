"""One writer at a time in a folder: flock(2) on the folder itself.

Files change identity when they are replaced, and no lock file is left in anybody's repository.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kloros_infra.adapters.replaced_file import cannot_be_written
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError, ObstacleError

LOCK_WAIT_S = 10.0
_LOCK_POLL_S = 0.02


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; raise LockHeldError (KI127) when another holds it for long.

    Raises ObstacleError (KI125) where the folder cannot be opened: then nothing could be replaced in it either.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ObstacleError([cannot_be_written(folder, error)]) from error
    try:
        _await_lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _await_lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise LockHeldError([_being_edited(folder)]) from error
            time.sleep(_LOCK_POLL_S)  # the pause between two polls of a condition with a deadline
        except OSError:
            # NFS locks no folders (nfs(5), "local_lock"); that models.yaml changed meanwhile is found out all the same.
            return
        else:
            return


def _being_edited(folder: Path) -> Diagnostic:
    return Diagnostic(
        code="KI127",
        summary="File is being edited",
        detail=f"Another command has been writing a models.yaml or its lock in {folder} for {LOCK_WAIT_S:.0f} s.",
        hint="Wait for it to end, then run this one again.",
    )
