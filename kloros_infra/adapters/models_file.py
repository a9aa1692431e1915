"""models.yaml and the files it includes, on disk: read, edited and replaced under a lock, all of them or none.

A file is replaced by rename(2), with the permissions, owner and attributes of the one before. The lock is flock(2) on
the folders: the files themselves change identity with every edit, and no lock file is left in anybody's repository.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic, Problems, has_errors
from kloros_infra.editing.edits import Edit
from kloros_infra.editing.project import edit_project
from kloros_infra.errors import LockHeldError, ObstacleError, ProblemsError

LOCK_WAIT_S = 10.0
_LOCK_POLL_S = 0.02
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
        locks.enter_context(_folder_lock(folder))
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


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _await_lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _await_lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise LockHeldError([_being_edited(folder)]) from error
            time.sleep(_LOCK_POLL_S)
        except OSError:
            # NFS locks no folders (nfs(5), "local_lock"); that a file changed meanwhile is found out all the same.
            return
        else:
            return


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
            path = _write_beside(held, held.data)
            path.replace(held.target)
        raise
    finally:
        for path in fresh:
            path.unlink(missing_ok=True)


def _write_beside(held: _Held, data: bytes) -> Path:
    """Write what shall replace a file, whole and durable, under another name in the same folder."""
    fresh = held.target.with_name(f".{held.target.name}{_FRESH_SUFFIX}")
    try:
        if not os.access(held.target, os.W_OK):
            raise ObstacleError([_unwritable(held.file, "it is write-protected")])
        # What a killed edit left: the lock says that nobody else is at it.
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _dress(descriptor, held.target)
            os.fsync(descriptor)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ObstacleError([_unwritable(held.file, _reason(error))]) from error
    return fresh


def _dress(descriptor: int, like: Path) -> None:
    """Give a file the owner, permissions and extended attributes (access lists among them) of another."""
    facts = like.stat()
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (facts.st_uid, facts.st_gid):
        os.fchown(descriptor, facts.st_uid, facts.st_gid)
    os.fchmod(descriptor, facts.st_mode & 0o7777)
    with suppress(OSError):  # a file system without them, or attributes that only the kernel sets
        for name in os.listxattr(like):
            os.setxattr(descriptor, name, os.getxattr(like, name))


def _replace(held: _Held, fresh: Path) -> None:
    try:
        if held.target.read_bytes() != held.data:
            raise ObstacleError([_changed(held.file)])
        fresh.replace(held.target)
        folder = os.open(held.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ObstacleError([_unwritable(held.file, _reason(error))]) from error


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


def _unwritable(file: Path, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI125",
        summary="File cannot be written",
        detail=f"{file}: {reason}. Nothing was changed.",
        hint="Run the command as the file's owner, who must be allowed to write in its folder too.",
    )


def _changed(file: Path) -> Diagnostic:
    return Diagnostic(
        code="KI126",
        summary="File changed meanwhile",
        detail=f"{file} was changed by someone else while the edit was made. Nothing was changed by us.",
        hint="Run the command again.",
    )


def _being_edited(folder: Path) -> Diagnostic:
    return Diagnostic(
        code="KI127",
        summary="File is being edited",
        detail=f"Another command has been editing a models.yaml in {folder} for {LOCK_WAIT_S:.0f} s.",
        hint="Wait for it to end, then run this one again.",
    )
