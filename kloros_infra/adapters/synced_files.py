"""Files and folders that are on the disk once a call returns; open(2) and fsync(2)."""

from __future__ import annotations

import os
from pathlib import Path

from kloros_infra.ir.artifact import Artifact, Link

FOLDER_MODE = 0o755


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


def make_folders(folder: Path) -> None:
    """Create missing folders with a mode that the umask does not decide."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir()
        one.chmod(FOLDER_MODE)
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder durable; see fsync(2) on directories."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
