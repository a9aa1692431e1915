"""Read what a compile needs from beside a models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError

LOCK_FILE = "models.lock.yaml"
HEADERS_FOLDER = "models.lock"


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
    """Read a project; raise ProblemsError when models.yaml cannot be read or is not UTF-8."""
    lock_file = file.parent / LOCK_FILE
    folder = file.parent / HEADERS_FOLDER
    headers = {f"{HEADERS_FOLDER}/{path.name}": path.read_text("utf-8") for path in sorted(folder.glob("*.json"))}
    lock_text = lock_file.read_text("utf-8") if lock_file.is_file() else None
    return Project(file, read_source(file), lock_file, lock_text, headers)


def read_source(file: Path) -> str:
    """Read an operator's file; raise ProblemsError with the byte at fault when it is not UTF-8."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ProblemsError([unreadable(file, error.strerror or str(error))]) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} (0x{data[error.start]:02x}) is not UTF-8"
        raise ProblemsError([unreadable(file, reason)]) from error


def unreadable(file: Path, reason: str) -> Diagnostic:
    """Say that a file cannot be read."""
    return Diagnostic(
        code="KI100",
        summary="File cannot be read",
        detail=f"{file}: {reason}.",
        hint="Give another file with --file, or save it as UTF-8. `kloros-infra compile --help` says which files are read.",
    )
