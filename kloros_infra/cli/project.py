"""Read what a compile needs: models.yaml, and its lock beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kloros_infra.cli.included_files import read_included, read_text, unreadable
from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE, OVERRIDER_FOLDER
from kloros_infra.errors import ProblemsError


@dataclass(frozen=True, slots=True)
class Project:
    """models.yaml with the files that it includes, its lock, and the header files beside it.

    `lock_text` is None before the first lock; `parts` are texts by file name, in the order of `include`, and
    `overrider_records` by the name of an instance.
    """

    file: Path
    text: str
    lock_file: Path
    lock_text: str | None
    headers: Mapping[str, str]
    parts: Mapping[str, str] = field(default_factory=dict)
    overrider_records: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, str]:
        """Map file names, as spans use them, to texts."""
        texts = {str(self.file): self.text, **self.parts}
        return texts if self.lock_text is None else {**texts, str(self.lock_file): self.lock_text}


def read_project(file: Path) -> Project:
    """Read a project; raise ProblemsError when a file cannot be read or is not UTF-8."""
    text = read_source(file)
    lock_file = file.parent / LOCK_FILE
    parts = read_included(file, text, passed_over={file, lock_file})
    lock_text = read_source(lock_file) if lock_file.exists() else None
    headers = dict(_headers(file.parent / HEADERS_FOLDER, lock_text or ""))
    records = {path.stem: read_source(path) for path in _json_files(file.parent / OVERRIDER_FOLDER) if path.is_file()}
    return Project(file, text, lock_file, lock_text, headers, parts, records)


def _headers(folder: Path, lock_text: str) -> Iterator[tuple[str, str]]:
    """Read header files; what no entry can name is there by name alone, and need not be readable."""
    for path in _json_files(folder):
        name = f"{HEADERS_FOLDER}/{path.name}"
        try:
            yield name, read_source(path) if path.is_file() or name in lock_text else ""
        except ProblemsError:
            if name in lock_text:
                raise
            yield name, ""


def _json_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProblemsError([unreadable(folder, error)]) from error


def read_source(file: Path) -> str:
    """Read one text; raise ProblemsError with the place of the first byte that is not UTF-8."""
    try:
        return read_text(file)
    except OSError as error:
        raise ProblemsError([unreadable(file, error)]) from error
