"""Files below a target root: whole or not at all, and never outside the root."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from kloros_infra.adapters import installed_record
from kloros_infra.adapters.artifact_files import read_artifact
from kloros_infra.adapters.synced_files import TEMPORARY, make_folders, remove, replace
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.artifact import Artifact, TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import Installed

FORMER_PROGRAMS = "usr/lib/kloros-infra"
"""Where launchers stood before there were generations."""


class RootedFiles:
    """Reads and replaces files of one target root.

    A file is written beside its place, synced, renamed over it, and the folder synced: after a crash there is the
    old file or the new one. One process writes at a time (`apply_lock`), so a temporary file's name is fixed and
    what a killed run left is overwritten or swept.
    """

    def __init__(self, root: Path, layout: Layout | None = None) -> None:
        self._root = root
        self._layout = layout or Layout()
        # Folders that were found to be inside the root, so that reading thousands of files looks at each folder once.
        self._read_from: set[str] = set()

    def read(self, path: str) -> Artifact | None:
        """Read what is at a path; raise ObstacleError when it is neither file nor link."""
        folder, _, name = path.rpartition("/")
        if folder not in self._read_from or name in ("", "..") or path.startswith("/"):
            self._place(path)
            self._read_from.add(folder)
        return read_artifact(self._root / path)

    def write(self, path: str, artifact: Artifact) -> None:
        """Put an artifact in place atomically, with the folders above it."""
        place = self._place(path)
        make_folders(place.parent)
        replace(place, artifact)

    def remove(self, path: str) -> None:
        """Take a file or link away, and the folders of ours that become empty; nothing when it is gone."""
        if remove(self._place(path)):
            self._prune(PurePosixPath(path).parent)

    def installed(self) -> Installed:
        """Read what earlier applies recorded; raise ObstacleError when the record is damaged."""
        found = self.read(self._record)
        if found is None:
            return Installed()
        installed = installed_record.from_text(found.text) if isinstance(found, TextFile) else None
        if installed is None:
            raise ObstacleError([_damaged(self._root / self._record)])
        return installed

    def record_installed(self, installed: Installed) -> None:
        """Remember what is ours; when that is complete, sweep what a killed run left half-written."""
        self.write(self._record, TextFile(installed_record.to_text(installed)))
        if not installed.is_unfinished:
            self._sweep(installed.digests)

    def sweep(self) -> None:
        """Take away what killed runs left half-written beside files of ours."""
        self._sweep(self.installed().digests)

    def free_bytes(self, path: str) -> int:
        """Say how much room there is where `path` is or will be."""
        place = self._place(path)
        return shutil.disk_usage(next(folder for folder in place.parents if folder.exists())).free

    @property
    def _record(self) -> str:
        return f"{self._layout.state}/installed.json"

    def _place(self, path: str) -> Path:
        """Find the place of a relative path; a link on the way must not lead out of the root."""
        parts = PurePosixPath(path).parts
        place = self._root.joinpath(*parts)
        is_inside = bool(parts) and not path.startswith("/") and ".." not in parts
        if not is_inside or not place.parent.resolve().is_relative_to(self._root.resolve()):
            raise ObstacleError([_outside(path)])
        return place

    def _prune(self, folder: PurePosixPath) -> None:
        """Remove empty folders upwards as long as they can only be ours."""
        while self._is_own_folder(folder):
            try:
                self._root.joinpath(folder).rmdir()
            except OSError:
                return
            folder = folder.parent

    def _is_own_folder(self, folder: PurePosixPath) -> bool:
        layout = self._layout
        own = (PurePosixPath(layout.current).parent, PurePosixPath(FORMER_PROGRAMS), PurePosixPath(layout.run))
        is_beside_unit = folder.parent == PurePosixPath(layout.former_units) and folder.suffix in (".wants", ".d")
        return is_beside_unit or any(folder.is_relative_to(one) for one in own)

    def _sweep(self, paths: Iterable[str]) -> None:
        folders = {self._layout.former_units, self._layout.state}
        for folder in sorted(folders | {str(PurePosixPath(path).parent) for path in paths}):
            for left in self._root.joinpath(folder).glob(f".*{TEMPORARY}"):
                left.unlink(missing_ok=True)


def _outside(path: str) -> Diagnostic:
    return Diagnostic(
        code="KI516",
        summary="Path leaves the target root",
        detail=f"{path!r} is not below the root, or a link on the way to it leads outside.",
        hint="Replace the link by a folder, or choose another root.",
        address=f"file.{path}",
    )


def _damaged(file: Path) -> Diagnostic:
    return Diagnostic(
        code="KI518",
        summary="The record of installed files is damaged",
        detail=f"{file} cannot be read, so it is not known which files are ours.",
        hint=f"Remove {file}: what equals the generated files is taken over again, the rest is reported one by one.",
        address=f"file.{file}",
    )
