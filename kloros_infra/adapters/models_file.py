"""models.yaml and the files it includes, on disk: read, edited and replaced under the locks of their folders.

Each file is the old one or the new one at any time. An edit that fails puts back the files that it replaced; one that
is killed between two files leaves the first of them new. They are replaced in an order in which that does no harm: what
is named is there before what names it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.adapters.folder_lock import folder_lock
from kloros_infra.adapters.replaced_file import cannot_be_written, put_in_place, write_beside
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors
from kloros_infra.editing.edits import Edit
from kloros_infra.editing.project import edit_project
from kloros_infra.errors import ObstacleError, ProblemsError

_FRESH_SUFFIX = ".kloros-edit"

Texts = Mapping[str, str]
"""Names of files, the root's first, and what stands in them."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that an edit replaced."""

    file: Path
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class _Held:
    """A file as it was read; `target` is where it really is, behind links."""

    file: Path
    target: Path
    data: bytes
    text: str


def edit_models_files(
    files: Sequence[Path],
    make_edits: Callable[[Texts], Sequence[Edit]],
    *,
    check: Callable[[Texts], Problems],
) -> tuple[FileChange, ...]:
    """Edit a models.yaml and what it includes; raise a KlorosError and change nothing where that fails in part.

    `make_edits` sees what stands in the files while nobody else edits them, `check` what would stand there.
    """
    with ExitStack() as locks:
        held = _locked(files, locks)
        texts = {str(one.file): one.text for one in held}
        changed, problems = edit_project(texts, make_edits(texts))
        if changed is None:
            raise ProblemsError(problems)
        problems = check({**texts, **changed}) if changed else ()
        if has_errors(problems):
            raise ProblemsError(problems)
        by_name = {str(one.file): one for one in held}
        _replace_all([(by_name[name], text) for name, text in changed.items()])
    return tuple(FileChange(Path(name), texts[name], text) for name, text in changed.items())


def _locked(files: Sequence[Path], locks: ExitStack) -> list[_Held]:
    """Read files, holding the locks of their folders, which are taken in one order by everybody."""
    for folder in sorted({_target(file).parent for file in files}):
        locks.enter_context(folder_lock(folder))
    return [_read(file) for file in files]


def _target(file: Path) -> Path:
    try:
        return file.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ProblemsError([_unreadable(file, _reason(error))]) from error


def _read(file: Path) -> _Held:
    target = _target(file)
    try:
        if not target.is_file():
            raise ProblemsError([_unreadable(file, "it is not a plain file")])
        data = target.read_bytes()
        return _Held(file, target, data, data.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemsError([_unreadable(file, _reason(error))]) from error


def _replace_all(changes: Sequence[tuple[_Held, str]]) -> None:
    """Replace files, in order; put those back that were replaced before one that cannot be."""
    fresh: list[Path] = []
    done: list[_Held] = []
    try:
        fresh += (_write_beside(held, text.encode()) for held, text in changes)
        for (held, _), path in zip(changes, fresh, strict=True):
            _replace(held, path)
            done.append(held)
    except BaseException:
        for held in reversed(done):
            put_in_place(_write_beside(held, held.data), held.target)
        raise
    finally:
        for path in fresh:
            path.unlink(missing_ok=True)


def _write_beside(held: _Held, data: bytes) -> Path:
    try:
        if not os.access(held.target, os.W_OK):
            # rename(2) asks for no right to the file itself.
            raise ObstacleError([cannot_be_written(held.file, OSError(errno.EACCES, "it is write-protected"))])
        return write_beside(held.target, data, suffix=_FRESH_SUFFIX)
    except OSError as error:
        raise ObstacleError([cannot_be_written(held.file, error)]) from error


def _replace(held: _Held, fresh: Path) -> None:
    try:
        if held.target.read_bytes() != held.data:
            raise ObstacleError([_changed(held.file)])
        put_in_place(fresh, held.target)
    except OSError as error:
        raise ObstacleError([cannot_be_written(held.file, error)]) from error


def _reason(error: Exception) -> str:
    match error:
        case OSError(strerror=str(text)):
            return text
        case UnicodeDecodeError():
            return f"byte {error.start} does not belong to UTF-8 text"
        case _:
            return " ".join(str(error).split())


def _unreadable(file: Path, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI124",
        summary="File cannot be read for an edit",
        detail=f"{file}: {reason}.",
        hint="Name the models.yaml with --file.",
    )


def _changed(file: Path) -> Diagnostic:
    return Diagnostic(
        code="KI126",
        summary="File changed meanwhile",
        detail=f"{file} was changed by someone else while the edit was made. Nothing was changed by us.",
        hint="Run the command again.",
    )
