"""Read what a compile needs from beside a models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE
from kloros_infra.compiler.source import decode
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError


@dataclass(frozen=True, slots=True)
class Project:
    """models.yaml, its lock, and the header files beside it; `lock_text` is None before the first lock."""

    file: Path
    text: str
    lock_file: Path
    lock_text: str | None
    headers: Mapping[str, str]

    @property
    def sources(self) -> dict[str, str]:
        """Map file names, as spans use them, to texts."""
        texts = {str(self.file): self.text}
        return texts if self.lock_text is None else {**texts, str(self.lock_file): self.lock_text}


def read_project(file: Path) -> Project:
    """Read a project; raise ProblemsError when a file cannot be read or is not UTF-8."""
    text = read_source(file)
    lock_file = file.parent / LOCK_FILE
    lock_text = read_source(lock_file) if lock_file.exists() else None
    folder = file.parent / HEADERS_FOLDER
    headers = {f"{HEADERS_FOLDER}/{path.name}": read_source(path) for path in sorted(folder.glob("*.json"))}
    return Project(file, text, lock_file, lock_text, headers)


def read_source(file: Path) -> str:
    """Read one text; raise ProblemsError with the place of the first byte that is not UTF-8."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ProblemsError([unreadable(file, error.strerror or str(error))]) from error
    text, problems = decode(data, file=str(file))
    if text is None:
        raise ProblemsError(problems)
    return text


def unreadable(file: Path, reason: str) -> Diagnostic:
    """Say that a file cannot be read."""
    return Diagnostic(
        code="KI100",
        summary="File cannot be read",
        detail=f"{file}: {reason}.",
        hint="Name the models.yaml with --file.",
    )
