"""What the external gguf-tensor-overrider answered, on disk beside the lock: one file for each instance."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kloros_infra.adapters.folder_lock import folder_lock
from kloros_infra.adapters.replaced_file import cannot_be_written, put_in_place, write_beside
from kloros_infra.compiler.emit_lock import OVERRIDER_FOLDER
from kloros_infra.errors import ObstacleError

_FRESH_SUFFIX = ".kloros-lock"


def write_records(project_folder: Path, records: Mapping[str, str]) -> Collection[str]:
    """Make these the records that there are, by the names of instances; name the files that changed.

    Raises ObstacleError (KI125) where one cannot be written.
    """
    folder = project_folder / OVERRIDER_FOLDER
    if not records and not folder.is_dir():
        return ()
    wanted = {folder / f"{name}.json": text.encode() for name, text in sorted(records.items())}
    with folder_lock(project_folder):
        return (*_written(folder, wanted), *_removed(folder, wanted))


def _written(folder: Path, wanted: Mapping[Path, bytes]) -> Collection[str]:
    changed = []
    for file, data in wanted.items():
        with _explained(file):
            if file.is_file() and file.read_bytes() == data:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            fresh = write_beside(file, data, suffix=_FRESH_SUFFIX)
            try:
                put_in_place(fresh, file)
            finally:
                fresh.unlink(missing_ok=True)
            changed.append(file.name)
    return changed


def _removed(folder: Path, wanted: Mapping[Path, bytes]) -> Collection[str]:
    changed = []
    for file in sorted(folder.glob("*.json")):
        if file not in wanted and not file.is_dir():
            with _explained(file):
                file.unlink(missing_ok=True)
                changed.append(file.name)
    return changed


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ObstacleError([cannot_be_written(file, error)]) from error
