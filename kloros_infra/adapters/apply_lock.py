"""One apply at a time on one root: flock(2), which the kernel lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from kloros_infra.adapters.synced_files import make_folders
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError, ObstacleError
from kloros_infra.ir.layout import Layout

LOCK_FILE = f"{Layout().state}/lock"
PROC_LOCKS = Path("/proc/locks")
READABLE = 0o644
POLL_S = 0.05


@contextmanager
def apply_lock(root: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of a root; raise LockHeldError with the holder when another still has it after a wait.

    Only `destroy` removes the file, while it holds the lock. Who waited for it then holds an inode that has no name
    any more, which another could not see: so the lock counts only while the file is still that inode.
    """
    file = root / LOCK_FILE
    deadline = time.monotonic() + wait_s
    descriptor = _lock(file, deadline)
    while not _is_same(descriptor, file):
        os.close(descriptor)
        descriptor = _lock(file, deadline)
    try:
        _sign(descriptor)
        try:
            yield
        finally:
            # A child that inherited the descriptor without an exec would hold the lock after us.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def is_locked(root: Path) -> bool:
    """Say whether an apply is at work, without getting in its way: proc_locks(5) tells who holds which file."""
    file = root / LOCK_FILE
    try:
        number, pid = file.stat().st_ino, json.loads(file.read_bytes())["pid"]
        locks = PROC_LOCKS.read_text(encoding="ascii")
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; the device there is not that of stat(2) on every file system.
    held = (line.split() for line in locks.splitlines())
    return any((words[1], words[4], words[5].rpartition(":")[2]) == ("FLOCK", str(pid), str(number)) for words in held)


def _lock(file: Path, deadline: float) -> int:
    descriptor = _open(file)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise LockHeldError([_held(file, holder)]) from error
            time.sleep(POLL_S)  # the pause between two polls of a condition with a deadline
        else:
            return descriptor


def _is_same(descriptor: int, file: Path) -> bool:
    held = os.fstat(descriptor)
    try:
        named = file.stat()
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)


def _open(file: Path) -> int:
    try:
        make_folders(file.parent)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, READABLE)
    except OSError as error:
        raise ObstacleError([_no_access(file, error)]) from error


def _sign(descriptor: int) -> None:
    """Say who holds the lock, for others to read; a full disk does not keep anybody from holding it."""
    record = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(OSError):
        os.fchmod(descriptor, READABLE)
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
        hint="Wait for it to end, or have apply wait with --wait. The lock cannot go stale: it ends with its process.",
    )


def _no_access(file: Path, error: OSError) -> Diagnostic:
    return Diagnostic(
        code="KI513",
        summary="The target root cannot be written",
        detail=f"Could not open {file}: {error.strerror}.",
        hint="Run as root for /, or give a folder of your own with --root.",
    )
