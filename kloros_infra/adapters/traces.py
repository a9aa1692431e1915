"""What an installation leaves on a root beside its files: state, logs, sockets, and folders made on the way.

destroy takes all of it away again, so that the root is what it was before the first apply.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from kloros_infra.adapters.synced_files import replace
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import SOCKET_NAME

MADE_FOLDERS = "made-folders.json"
STATE_FILES = ("installed.json", "confirm.*", "hardware.*", "journal/*.jsonl", "*.kloros-tmp", MADE_FOLDERS, "lock")
RUN_FILES = (
    SOCKET_NAME,
    "supervisor.lock",
    "supervisor-children.json",
    "booted",
    "dirty",
    "gpu_*",
    "reconcile.lock",
    ".*.kloros-tmp",
)
LOG_FILES = ("*.log", "*.log.1")


class Traces:
    """Notes which folders there were, and takes away what an installation added to a root."""

    def __init__(self, root: Path, layout: Layout | None = None) -> None:
        self._root = root
        self._layout = layout or Layout()

    def missing_folders(self) -> tuple[str, ...]:
        """List the folders that an installation will make; asked before the first of them is made."""
        return tuple(folder for folder in self._possible() if not (self._root / folder).exists())

    def note(self, folders: Iterable[str]) -> None:
        """Write down the folders that were missing, unless an earlier apply has."""
        file = self._state / MADE_FOLDERS
        if not file.exists():
            replace(file, TextFile(json.dumps(list(folders)) + "\n"))

    def remove(self) -> None:
        """Take everything away that is ours by its name, then the folders that we made and that are empty.

        The caller holds the lock, whose file goes last.
        """
        made, layout = self._made(), self._layout
        for folder, patterns in ((layout.logs, LOG_FILES), (layout.run, RUN_FILES)):
            _unlink(self._root / folder, patterns)
        for folder in (layout.router_state, layout.router_run):
            _clear(self._root / folder)
        _unlink(self._state, STATE_FILES)
        own = (f"{layout.state}/journal", layout.state, layout.logs, layout.run, layout.lockout_folder)
        for folder in sorted({*own, *made}, reverse=True):
            with suppress(OSError):  # it holds something that is not ours, or is gone
                (self._root / folder).rmdir()

    @property
    def _state(self) -> Path:
        return self._root / self._layout.state

    def _made(self) -> tuple[str, ...]:
        """Read the note; only folders that an installation makes are ever taken from it."""
        try:
            noted = json.loads((self._state / MADE_FOLDERS).read_text())
        except (OSError, ValueError):
            return ()
        return tuple(folder for folder in self._possible() if folder in noted)

    def _possible(self) -> tuple[str, ...]:
        layout = self._layout
        files = (layout.generator, layout.tmpfiles, layout.sysusers, layout.polkit, layout.udev_rules, layout.current)
        folders = (layout.weights, layout.state, layout.logs, layout.run, layout.lockout_folder)
        inside = (f"{folder}/file" for folder in folders)
        parents = {str(parent) for path in (*files, *inside) for parent in PurePosixPath(path).parents}
        return tuple(sorted(parents - {"."}))


def _clear(folder: Path) -> None:
    """Take away a folder that is the router's alone, and its files.

    It may be a link: of users that it makes up, systemd keeps state below `private` (systemd.exec(5), StateDirectory=).
    """
    for file in folder.glob("*"):
        if not file.is_dir():
            file.unlink()
    place = folder.resolve()
    with suppress(OSError):  # it is not there, or holds what no router has put there
        place.rmdir()
        if folder.is_symlink():
            folder.unlink()


def _unlink(folder: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()
