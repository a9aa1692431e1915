"""The generations of a root: a folder for each, and links that say which one is current and which was good.

A generation is made in a folder whose name begins with a dot, synced, and renamed: it is there whole or not at all.
The same goes for taking one away, and for the links. One process writes at a time (`apply_lock`), so what a killed
run left is swept by the next change.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath

from kloros_infra.adapters.artifact_files import read_artifact
from kloros_infra.adapters.synced_files import FOLDER_MODE, beside, create, make_folders, remove, replace, sync_folder
from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.artifact import Artifact, ArtifactTree, Link, TextFile
from kloros_infra.ir.generation import History
from kloros_infra.ir.layout import Layout

STAGING = ".staging"
LEAVING = ".leaving"
NUMBER = re.compile("[1-9][0-9]*")
NO_NUMBER = "-"
SYNCS_AT_ONCE = 16
"""A disk takes many syncs at once in little more than the time of one."""
MANY_FILES = 64


class GenerationFolders:
    """The folder of generations and the links beside it."""

    def __init__(self, root: Path, layout: Layout | None = None) -> None:
        self._root = root
        self._layout = layout or Layout()
        self._folder = root / self._layout.generations
        self._current = root / self._layout.current
        self._last_good = root / self._layout.last_good
        self._booted = root / self._layout.booted_file

    def history(self) -> History:
        """Say which generations are kept, and which of them are marked; what else lies there is none of ours."""
        folders = (path for path in self._folder.glob("[1-9]*") if NUMBER.fullmatch(path.name) and path.is_dir())
        return History(
            numbers=tuple(sorted(int(path.name) for path in folders)),
            current=self._linked(self._current),
            last_good=self._linked(self._last_good),
            booted=int(noted) if (noted := self._boot_note()) and NUMBER.fullmatch(noted) else None,
            is_current_foreign=os.path.lexists(self._current) and self._linked(self._current) is None,
        )

    def read(self, number: int, name: str) -> Artifact | None:
        """Read a file of a generation; None where there is none."""
        return read_artifact(self._folder / str(number) / _inside(name))

    def stage(self, number: int, files: ArtifactTree) -> None:
        """Put a generation beside the others, in place of one of that number which never was current."""
        self._refuse_current(number)
        make_folders(self._folder)
        self._sweep()
        staging = self._folder / f".{number}{STAGING}"
        try:
            _fill(staging, files)
            self._retire(number)
            staging.rename(self._folder / str(number))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        sync_folder(self._folder)
        self._sweep()

    def flip(self, number: int | None) -> None:
        """Make a generation, or none, the current one."""
        self.note_boot()
        self._link(self._current, number)

    def note_boot(self) -> None:
        """Write down, once in each boot, which generation is current: before the first flip, that is the booted one."""
        if self._boot_note() is None:
            current = self._linked(self._current)
            note = TextFile(f"{NO_NUMBER if current is None else current} {boot_id()}\n")
            make_folders(self._booted.parent)
            # At boot an apply may begin while the profile is chosen: whoever comes first writes what both would.
            with suppress(FileExistsError, FileNotFoundError):
                replace(self._booted, note)

    def mark_last_good(self, number: int | None) -> None:
        """Note which generation to go back to."""
        self._link(self._last_good, number)

    def remove(self, number: int) -> None:
        """Take a generation away; nothing when it is gone already."""
        self._refuse_current(number)
        if self._folder.exists():
            self._retire(number)
            sync_folder(self._folder)
            self._sweep()
        self._leave_if_empty()

    def sweep(self) -> None:
        """Take away what killed runs left half made or half removed."""
        self._sweep()
        for link in (self._current, self._last_good, self._booted):
            beside(link).unlink(missing_ok=True)
        self._leave_if_empty()

    def _retire(self, number: int) -> None:
        folder, leaving = self._folder / str(number), self._folder / f".{number}{LEAVING}"
        if folder.exists():
            shutil.rmtree(leaving, ignore_errors=True)
            folder.rename(leaving)

    def _linked(self, link: Path) -> int | None:
        try:
            target = PurePosixPath(link.readlink())
        except OSError:
            return None
        is_ours = target.parent == PurePosixPath(self._folder.name) and NUMBER.fullmatch(target.name)
        return int(target.name) if is_ours else None

    def _boot_note(self) -> str | None:
        """Read what was noted in this boot; a folder of an embedded supervisor still has what was noted in others."""
        try:
            number, boot = self._booted.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return None
        return number if boot == boot_id() else None

    def _link(self, link: Path, number: int | None) -> None:
        if number is None:
            beside(link).unlink(missing_ok=True)
            remove(link)
        else:
            replace(link, Link(f"{self._folder.name}/{number}"))

    def _refuse_current(self, number: int) -> None:
        if number == self._linked(self._current):
            raise ObstacleError([_is_current(number)])

    def _sweep(self) -> None:
        """Take away what a killed run left half made or half removed."""
        for left in (*self._folder.glob(f".*{STAGING}"), *self._folder.glob(f".*{LEAVING}")):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()

    def _leave_if_empty(self) -> None:
        for folder in (self._folder, self._folder.parent):
            if folder.exists():
                if any(folder.iterdir()):
                    return
                folder.rmdir()
                sync_folder(folder.parent)


def _fill(folder: Path, files: ArtifactTree) -> None:
    """Write all files of a new folder through to the disk, and then the folders that hold them."""
    folder.mkdir()
    folders = {folder, *(folder / parent for name in files for parent in PurePosixPath(_inside(name)).parents)}
    for one in sorted(folders):
        one.mkdir(exist_ok=True)
        one.chmod(FOLDER_MODE)
    if len(files) < MANY_FILES:
        for name in sorted(files):
            create(folder / name, files[name])
    else:
        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            deque(pool.map(lambda name: create(folder / name, files[name]), sorted(files)), maxlen=0)
    _sync_all(folders)


def _sync_all(folders: Iterable[Path]) -> None:
    for one in sorted(folders, reverse=True):
        sync_folder(one)


def _inside(name: str) -> str:
    """Check the name of a file in a generation: it comes from a manifest, which anybody may have altered."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ObstacleError([_leads_out(name)])
    return name


def _leads_out(name: str) -> Diagnostic:
    return Diagnostic(
        code="KI593",
        summary="Path leaves the generation",
        detail=f"{name!r} is not below a generation's folder.",
        hint="The manifest was altered; go to another generation, or apply: that makes a new one.",
    )


def _is_current(number: int) -> Diagnostic:
    return Diagnostic(
        code="KI594",
        summary="The current generation stays",
        detail=f"Generation {number} is the one that the machine runs by; it is neither replaced nor removed.",
        hint="Go to another generation first: `kloros-infra rollback`.",
    )
