"""One reconcile at a time on one root: flock(2), which the kernel lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kloros_infra.adapters.synced_files import make_folders
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError
from kloros_infra.ir.layout import Layout

WAIT_S = 10.0
_POLL_S = 0.01


@contextmanager
def reconcile_lock(root: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock of a root's reconcile; raise LockHeldError (KI907) when another has it for long."""
    file = root / Layout().reconcile_lock
    make_folders(file.parent)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _await(descriptor, file, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def _await(descriptor: int, file: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise LockHeldError([_held(file)]) from error
            time.sleep(_POLL_S)  # the pause between two polls of a condition with a deadline
        else:
            return


def _held(file: Path) -> Diagnostic:
    return Diagnostic(
        code="KI907",
        summary="Another reconcile does not end",
        detail=f"Another process has held {file} for long: perhaps the driver of a card hangs.",
        hint="See with `kloros-infra logs kloros-gpu.service` what it does; it is tried again by itself.",
    )
