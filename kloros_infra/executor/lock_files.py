"""The files of one entry while it is locked: what they are, their bytes, and their checksums."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kloros_infra.executor.lock_ports import WeightsSource
from kloros_infra.ir.lock import LockedFile
from kloros_infra.ir.split_gguf import set_sha256
from kloros_infra.ir.weights_source import RangedFile, SourceFacts

OnBytes = Callable[[int], None]


class StoppedError(Exception):
    """Locking ends before this entry is read: another one failed, or a person stopped it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of an entry, and who reads it; reading ends when `stop` is set."""

    url: str
    source: WeightsSource
    facts: SourceFacts
    stop: threading.Event

    @property
    def name(self) -> str:
        return self.url

    @property
    def size_bytes(self) -> int:
        return self.facts.size_bytes

    def read(self, start: int, length: int) -> bytes:
        """Read a piece."""
        self._check()
        return self.source.read(self.url, self.facts.revision, start=start, length=length)

    def pieces(self) -> Iterator[bytes]:
        """Read the whole file."""
        for piece in self.source.pieces(self.url, self.facts.revision):
            self._check()
            yield piece

    def _check(self) -> None:
        if self.stop.is_set():
            raise StoppedError


@dataclass(frozen=True, slots=True)
class Joined:
    """Parts put one behind the other, as one file."""

    name: str
    parts: Sequence[Part]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    def read(self, start: int, length: int) -> bytes:
        """Read a piece, which may lie in several parts."""
        found, begin = b"", 0
        for part in self.parts:
            first, last = max(start - begin, 0), min(start + length - begin, part.size_bytes)
            if first < last:
                found += part.read(first, last - first)
            begin += part.size_bytes
        return found


def readable(key: str, parts: Sequence[Part], *, is_split: bool) -> tuple[RangedFile, ...]:
    """Give the files as a header reader wants them: a split GGUF's apart, others as the one that they make."""
    return tuple(parts) if is_split or len(parts) == 1 else (Joined(key, parts),)


def checksums(parts: Sequence[Part], on_bytes: OnBytes, *, is_split: bool) -> tuple[str, tuple[LockedFile, ...]]:
    """Give the entry's sha256 and its files; what a source vouches for is not read, except to be joined."""
    hashing = _Hashing(on_bytes, is_joined=len(parts) > 1 and not is_split)
    files = tuple(hashing.file(part) for part in parts)
    if hashing.is_joined:
        return hashing.joined.hexdigest(), files
    return set_sha256(file.sha256 for file in files) if is_split else files[0].sha256, files


class _Hashing:
    """Hashes one part after the other, and what they make when joined."""

    def __init__(self, on_bytes: OnBytes, *, is_joined: bool) -> None:
        self.is_joined = is_joined
        self.joined = hashlib.sha256()
        self._on_bytes = on_bytes
        self._done = 0

    def file(self, part: Part) -> LockedFile:
        """Give one part's checksum."""
        vouched = part.facts.sha256
        if vouched is not None and not self.is_joined:
            self._add(part.size_bytes)
            return LockedFile(part.url, part.size_bytes, vouched)
        own = hashlib.sha256()
        began = self._done
        for piece in part.pieces():
            own.update(piece)
            if self.is_joined:
                self.joined.update(piece)
            self._add(len(piece))
        return LockedFile(part.url, self._done - began, own.hexdigest())

    def _add(self, length: int) -> None:
        self._done += length
        self._on_bytes(self._done)
