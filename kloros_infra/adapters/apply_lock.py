"""One apply at a time on one root: flock(2), which the kernel lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError, ObstacleError
from kloros_infra.ir.layout import Layout

LOCK_FILE = f"{Layout().state}/lock"


@contextmanager
def apply_lock(root: Path) -> Iterator[None]:
    """Hold the lock of a root; raise LockHeldError with the holder when another has it.

    The file stays: a lock file that is removed can be locked twice, once by its old and once by its new inode.
    """
    file = root / LOCK_FILE
    descriptor = _open(file)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockHeldError([_held(file, _holder(descriptor))]) from error
        _sign(descriptor)
        try:
            yield
        finally:
            # A child that inherited the descriptor without an exec would hold the lock after us.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    try:
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise ObstacleError([_no_access(file, error)]) from error


def _sign(descriptor: int) -> None:
    record = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(record).encode(), 0)


def _holder(descriptor: int) -> str:
    """Say who holds the lock; the holder may be about to write its name."""
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
        return f"pid {int(record['pid'])}, since {record['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has just begun"


def _held(file: Path, holder: str) -> Diagnostic:
    return Diagnostic(
        code="KI512",
        summary="Another apply is running",
        detail=f"{file} is held by {holder}.",
        hint="Wait for it to end. The lock cannot go stale: it ends with its process.",
    )


def _no_access(file: Path, error: OSError) -> Diagnostic:
    return Diagnostic(
        code="KI513",
        summary="The target root cannot be written",
        detail=f"Could not open {file}: {error.strerror}.",
        hint="Run as root for /, or give a folder of your own with --root.",
    )
