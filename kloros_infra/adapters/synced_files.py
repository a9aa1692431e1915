"""Files and folders that are on the disk once a call returns; open(2) and fsync(2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kloros_infra.ir.artifact import Artifact, Link

FOLDER_MODE = 0o755
TEMPORARY = ".kloros-tmp"


def create(file: Path, artifact: Artifact) -> None:
    """Make a file that is not there yet, with a mode that the umask does not decide."""
    if isinstance(artifact, Link):
        file.symlink_to(artifact.target)
        return
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(artifact.text.encode("utf-8", "surrogateescape"))
        stream.flush()
        os.fchmod(descriptor, artifact.mode)
        os.fsync(descriptor)


def beside(file: Path) -> Path:
    """Name what shall replace a file: one process writes at a time, so a killed run's is simply written anew."""
    return file.with_name(f".{file.name}{TEMPORARY}")


def replace(file: Path, artifact: Artifact) -> None:
    """Put a file or link in place, or in the place of another: after a crash there is the old one or the new one."""
    fresh = beside(file)
    fresh.unlink(missing_ok=True)
    try:
        create(fresh, artifact)
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def rename(file: Path, target: Path) -> bool:
    """Give a file another name; say whether it was there: of several processes, it is for one alone."""
    try:
        file.rename(target)
    except FileNotFoundError:
        return False
    sync_folder(file.parent)
    return True


def remove(file: Path) -> bool:
    """Take a file or link away; say whether it was there: of several processes, it is for one alone."""
    try:
        file.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    sync_folder(file.parent)
    return True


def make_folders(folder: Path) -> None:
    """Create missing folders with a mode that the umask does not decide, not even for a moment."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        with _usual_umask():
            one.mkdir(FOLDER_MODE, exist_ok=True)
        sync_folder(one.parent)


@contextmanager
def _usual_umask() -> Iterator[None]:
    """Set the umask that services have by default; systemd.exec(5), UMask=."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder durable; see fsync(2) on directories."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
