"""A file replaced as a whole by rename(2), with the permissions, owner and attributes of the one before."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from kloros_infra.adapters.synced_files import sync_folder
from kloros_infra.diagnostics import Diagnostic

_NEW_FILE_MODE = 0o644
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def write_beside(target: Path, data: bytes, *, suffix: str) -> Path:
    """Write what shall replace a file, whole and durable, under another name in the same folder.

    Whoever does this holds the folder's lock: what stands under that name is left of a killed run.
    """
    fresh = target.with_name(f".{target.name}{suffix}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _dress(descriptor, target)
            os.fsync(descriptor)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def put_in_place(fresh: Path, target: Path) -> None:
    """Rename a file that was written beside another to its name, durably."""
    fresh.replace(target)
    sync_folder(target.parent)


def _dress(descriptor: int, like: Path) -> None:
    """Give a file the owner, permissions and extended attributes (access lists among them) of another."""
    try:
        facts = like.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, _NEW_FILE_MODE)
        return
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (facts.st_uid, facts.st_gid):
        os.fchown(descriptor, facts.st_uid, facts.st_gid)
    os.fchmod(descriptor, facts.st_mode & 0o7777)
    with suppress(OSError):  # a file system without them, or attributes that only the kernel sets
        for name in os.listxattr(like):
            os.setxattr(descriptor, name, os.getxattr(like, name))


def cannot_be_written(file: Path, error: OSError) -> Diagnostic:
    """Say that a file cannot be replaced, and what to do about it."""
    room = "Make room on its disk, then run the command again."
    rights = "Run the command as the file's owner, who must be allowed to read its folder and to write in it."
    return Diagnostic(
        code="KI125",
        summary="File cannot be written",
        detail=f"{file}: {error.strerror or error}. It is as it was.",
        hint=room if error.errno in _NO_ROOM else rights,
    )
