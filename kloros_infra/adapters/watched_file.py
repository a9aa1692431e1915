"""A text file that another process replaces: has it changed, and what does it say."""

from __future__ import annotations

from pathlib import Path


class WatchedFile:
    """One file, watched by its stat: replacing it gives a new inode, writing it a new time or size."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        return str(self._path)

    def stamp(self) -> tuple[int, int, int] | None:
        """Give what changes with the file; None where there is none or it cannot be looked at."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def read(self) -> str:
        """Read the whole file; raise OSError or UnicodeDecodeError."""
        return self._path.read_text(encoding="utf-8")
