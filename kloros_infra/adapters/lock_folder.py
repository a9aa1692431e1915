"""models.lock.yaml and the header files in models.lock/, on disk: changed entry by entry, by one command at a time.

Whoever changes the lock reads it, adds and removes its own entries and writes it while it holds the folder's lock: what
another command pinned meanwhile stays, and so do entries that cannot be used until they are read again. Headers are
written before the lock that names them. Files are replaced where they are, behind links, and keep their permissions.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from kloros_infra.adapters.folder_lock import folder_lock
from kloros_infra.adapters.replaced_file import cannot_be_written, put_in_place, write_beside
from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE, emit_lock, lock_text
from kloros_infra.compiler.parse_lock import parse_entries
from kloros_infra.compiler.source import read
from kloros_infra.compiler.source_builder import MAX_BYTES
from kloros_infra.compiler.source_encoding import decode
from kloros_infra.compiler.spec import read_spec
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors
from kloros_infra.errors import ObstacleError, ProblemsError
from kloros_infra.ir.lock import Lock, LockedWeights, LockSpec

_FRESH_SUFFIX = ".kloros-lock"
# Writing what is pinned so far takes at most this share of the time.
_MOST_SHARE_OF_WRITING = 0.05


@dataclass(frozen=True, slots=True)
class LockChange:
    """Entries that come, in place of those of the same key, and keys of entries that go."""

    entries: Mapping[str, LockedWeights] = field(default_factory=dict)
    gone: Collection[str] = ()


class LockFolder:
    """The lock in the folder of a models.yaml; `changed` names the files that were written or removed."""

    def __init__(self, folder: Path) -> None:
        self.changed: set[str] = set()
        self._folder = folder
        self._known: tuple[bytes, LockSpec] = (b"", LockSpec(version=1, weights={}))

    def change(self, change: LockChange) -> None:
        """Make a change in the lock as it is by now; raise a KlorosError where it cannot be read or written."""
        headers, new = _written(change)
        with folder_lock(self._folder):
            weights = {key: one for key, one in self._read().weights.items() if key not in change.gone}
            spec = LockSpec(version=1, weights=dict(sorted({**weights, **new.weights}.items())))
            data = _bounded(LOCK_FILE, lock_text(spec))
            for path, header in headers.items():
                self._write(path, header)
            self._write(LOCK_FILE, data)
            self._known = (data, spec)
            self._remove_headers_but({one.header for one in spec.weights.values()})

    def _read(self) -> LockSpec:
        """Read what the lock says of each entry, sound or not."""
        file = self._folder / LOCK_FILE
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return LockSpec(version=1, weights={})
        except OSError as error:
            raise ObstacleError([cannot_be_written(file, error)]) from error
        if data != self._known[0]:
            self._known = (data, _parsed(data, str(file)))
        return self._known[1]

    def _write(self, path: str, data: bytes) -> None:
        file = self._folder / path
        with _explained(file):
            target = file.resolve()
            if target.is_file() and target.read_bytes() == data:
                return
            target.parent.mkdir(exist_ok=True)
            fresh = write_beside(target, data, suffix=_FRESH_SUFFIX)
            try:
                put_in_place(fresh, target)
            finally:
                fresh.unlink(missing_ok=True)
            self.changed.add(path)

    def _remove_headers_but(self, named: Collection[str]) -> None:
        for file in sorted(self._folder.joinpath(HEADERS_FOLDER).glob("*.json")):
            path = f"{HEADERS_FOLDER}/{file.name}"
            if path not in named and (file.is_symlink() or not file.is_dir()):
                with _explained(file):
                    file.unlink(missing_ok=True)
                self.changed.add(path)


class Checkpoint:
    """Writes what is pinned so far beside what the lock had, so that an interrupted lock goes on where it stopped."""

    def __init__(self, folder: LockFolder) -> None:
        self._folder = folder
        self._entries: dict[str, LockedWeights] = {}
        self._due = 0.0

    def add(self, entry: LockedWeights) -> None:
        """Take an entry up, and write all of them unless that was done a moment ago."""
        self._entries[entry.key] = entry
        began = time.monotonic()
        if began >= self._due:
            self.write_rest()
            ended = time.monotonic()
            self._due = ended + (ended - began) / _MOST_SHARE_OF_WRITING

    def write_rest(self) -> None:
        """Write what has not been written yet."""
        if self._entries:
            self.end(gone=())

    def end(self, *, gone: Collection[str]) -> None:
        """Write the rest, take out entries that nobody wants any more, and header files that no entry names."""
        self._folder.change(LockChange(self._entries, gone))
        self._entries = {}


def _written(change: LockChange) -> tuple[Mapping[str, bytes], LockSpec]:
    """Write new entries down, and read them again: what could not be read back must not get into the lock."""
    if sum(map(_source_bytes, change.entries.values())) > MAX_BYTES:
        raise ObstacleError([_too_large(LOCK_FILE)])  # before much time is spent on writing it
    try:
        texts = emit_lock(Lock(change.entries))
    except ValidationError as error:
        raise ObstacleError([_unreadable(str(error.errors()[0]["msg"]))]) from error
    headers = {path: text for path, text in texts.items() if path != LOCK_FILE}
    found, problems = parse_entries(texts[LOCK_FILE], headers, file=LOCK_FILE)
    wrong = (*problems, *(found.problems if found else ()))
    if wrong:
        raise ObstacleError([_unreadable(" ".join(problem.detail for problem in wrong[:3]))])
    data = {path: _bounded(path, text) for path, text in headers.items()}
    return data, _parsed(texts[LOCK_FILE].encode(), LOCK_FILE)


def _bounded(path: str, text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_BYTES:
        raise ObstacleError([_too_large(path)])
    return data


def _source_bytes(entry: LockedWeights) -> int:
    return sum(map(len, (*entry.source, *(file.source for file in entry.files))))


def _too_large(path: str) -> Diagnostic:
    return _unreadable(f"{path} would be larger than {MAX_BYTES // 2**20} MiB.")


def _parsed(data: bytes, file: str) -> LockSpec:
    text, problems = decode(data, file=file)
    source, more = (None, problems) if text is None else read(text, file=file)
    spec, others = (None, more) if source is None else read_spec(source, LockSpec)
    found: Problems = (*more, *others)
    if spec is None or has_errors(found):
        raise ProblemsError(found)
    return spec


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        # Path.resolve raises RuntimeError for links that lead in a circle.
        cause = error if isinstance(error, OSError) else OSError(None, str(error))
        raise ObstacleError([cannot_be_written(file, cause)]) from error


def _unreadable(reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI330",
        summary="Lock could not be read again",
        detail=f"The lock was not written, because no later command could read it: {reason}",
        hint="Check what the source says of the weights; if it is sound, report this.",
    )
