"""Small text files that reconcile reads and replaces, most of them below /run."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from kloros_infra.adapters.synced_files import TEMPORARY, make_folders

MAX_BYTES = 1024 * 1024
MODE = 0o644


class RunFiles:
    """Implements `agent.ports.Files` below a root.

    A file is written beside its place and renamed over it, so nobody reads half of it. It is not synced: what lies in
    /run is of one boot (hier(7)), and whoever reads it takes a damaged file for none. The name beside is of the process
    that writes, for not all do so under `reconcile_lock`; what a killed one left there is in nobody's way.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> str | None:
        """Read a file; None where there is none that could be read, and for one that is no text or far too large."""
        try:
            # A FIFO would wait for a writer (fifo(7)).
            descriptor = os.open(self._root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(MAX_BYTES + 1)
            return data.decode() if len(data) <= MAX_BYTES else None
        except (OSError, UnicodeDecodeError, TypeError):  # TypeError: a FIFO with an idle writer reads as None
            return None

    def write(self, name: str, text: str) -> None:
        """Replace a file, with the folders above it; one that says so already is left as it is."""
        if self.read(name) == text:
            return
        place = self._root / name
        make_folders(place.parent)
        fresh = place.with_name(f".{place.name}.{os.getpid()}{TEMPORARY}")
        fresh.unlink(missing_ok=True)
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, MODE)  # whatever the umask
                file.write(text)
            fresh.replace(place)
        except BaseException as error:
            fresh.unlink(missing_ok=True)
            if isinstance(error, OSError):
                # A full disk shows when a descriptor is written, which has no name.
                error.filename = str(place)
            raise

    def remove(self, name: str) -> bool:
        """Take a file away, or an empty folder that somebody put in its place; say whether it was there."""
        place = self._root / name
        try:
            place.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except IsADirectoryError:
            place.rmdir()
        return True

    def exists(self, name: str) -> bool:
        return os.path.lexists(self._root / name)

    def touch(self, name: str) -> None:
        """Put an empty file there, or give the one that is there the time of now; raise OSError."""
        place = self._root / name
        with suppress(FileExistsError):
            make_folders(place.parent)
        place.touch(MODE)
