"""A journal of lines in one file: added to, and written anew as a whole when it has grown long."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from kloros_infra.adapters.replaced_file import put_in_place, write_beside

_MODE = 0o640
_FOLDER_MODE = 0o700


class LineJournal:
    """Implements `daemon.ports.Journal`; one process writes at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """Give the text, empty where there is no file; raise OSError.

        Lines that are no text any more are no records.
        """
        try:
            return self._path.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def append(self, text: str) -> None:
        """Add whole lines and have them reach the disk; raise OSError."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        try:
            _append(descriptor, text.encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def rewrite(self, text: str) -> None:
        """Put another text in place of all, at once or not at all; raise OSError."""
        put_in_place(write_beside(self._path, text.encode(), suffix=".new"), self._path)


def _append(descriptor: int, lines: bytes) -> None:
    """Write lines whole or not at all: the next ones must not continue a part of them."""
    end = os.fstat(descriptor).st_size
    rest = memoryview(lines)
    try:
        while rest:
            # write(2): a disk that is nearly full takes a part, and nothing the next time.
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def journal_in_place(path: Path) -> LineJournal:
    """Give a journal in a folder that is there: systemd makes it (StateDirectory=), the supervisor does not."""
    with suppress(OSError):  # reading and writing say what is wrong
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    return LineJournal(path)
