"""What compiles keep for later ones, in the user's cache folder: one file for each slot of a project.

Nothing in the folder is trusted. A file counts only if it is ours alone to write, was kept by the same code under the
same digest, and is whole; anything else is as good as no file, and is replaced. Files are renamed into place, so two
compiles at once see each other's files whole or not at all; they are not synced, for a torn one does not count. Where
the folder cannot be written, nothing is kept. When all of it outgrows its room, what was written first goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from kloros_infra.adapters.own_code import code_digest
from kloros_infra.compiler.compile_cache import digest_of

MOST_BYTES = 128 * 2**20
FORMAT = "kloros-infra compile 1"
MOST_LINE_BYTES = 256
OTHERS_MAY_WRITE = 0o022


def cache_folder(environ: Mapping[str, str], *, is_root: bool) -> Path | None:
    """Say where compiles are kept (XDG Base Directory Specification); root's are where system services keep theirs.

    There is no such place for a user without a home.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    home = environ.get("HOME", "")
    if base.startswith("/"):  # relative paths are to be ignored, says the specification
        caches = base
    elif is_root:  # under sudo, HOME may be that of another user
        caches = "/var/cache"
    elif home.startswith("/"):
        caches = f"{home}/.cache"
    else:
        return None
    return Path(caches) / "kloros-infra" / "compile"


class CompileCacheFolder:
    """The slots of one project."""

    def __init__(self, folder: Path, project: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._project = os.fspath(project)
        self._most_bytes = most_bytes

    def read(self, slot: str, digest: str) -> bytes | None:
        """Give what a slot holds if this code kept it under this digest and it is whole; otherwise nothing."""
        with contextlib.suppress(OSError), open(self._file(slot), "rb", opener=_opener) as stream:
            if _is_ours_alone(os.fstat(stream.fileno())) and _line(stream) == self._stamp(digest):
                checksum, data = _line(stream), stream.read()
                return data if hashlib.sha256(data).hexdigest() == checksum else None
        return None

    def write(self, slot: str, digest: str, data: bytes) -> None:
        """Put data in a slot, and make room; where that cannot be done, all stays as it was."""
        if len(data) > self._most_bytes:
            return
        head = f"{self._stamp(digest)}\n{hashlib.sha256(data).hexdigest()}\n".encode()
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._file(slot), head, data)
            self._make_room()

    def _file(self, slot: str) -> Path:
        return self._folder / digest_of(self._project, slot)

    def _stamp(self, digest: str) -> str:
        return f"{FORMAT} {self._code} {digest}"

    @cached_property
    def _code(self) -> str:
        return code_digest()

    def _make_room(self) -> None:
        """Remove the oldest files, those of killed runs among them, until the rest has room."""
        with os.scandir(self._folder) as entries:
            found = [(status.st_mtime_ns, status.st_size, one.path) for one in entries if (status := _status(one))]
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._most_bytes:
                return
            Path(path).unlink(missing_ok=True)
            total -= size


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Look at a file; nothing where another run has removed it meanwhile."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _replace(file: Path, *pieces: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as stream:
        fresh = Path(stream.name)
        try:
            stream.writelines(pieces)
            stream.flush()
            fresh.replace(file)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def _opener(path: str, flags: int) -> int:
    """Open no link, and wait for nobody at the other end of a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_ours_alone(status: os.stat_result) -> bool:
    """Say whether nobody else can have written a file: what it holds becomes unit files."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & OTHERS_MAY_WRITE


def _line(stream: BinaryIO) -> str:
    return stream.readline(MOST_LINE_BYTES).decode(errors="replace").removesuffix("\n")
