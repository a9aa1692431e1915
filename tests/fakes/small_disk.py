"""A small file system of its own, to fill up."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def a_small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """Mount a file system of this size."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Say whether this process may mount."""
    try:
        with a_small_disk(folder, 2**20):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
