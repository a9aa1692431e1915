"""What locking needs of the outside world, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.weights_source import SourceFacts


class WeightsSource(Protocol):
    """One kind of place that weights come from.

    A file that cannot be had raises UnreachableError (not here, not now) or ObstacleError (wrong, or refused).
    """

    def handles(self, url: str) -> bool: ...
    def look(self, url: str) -> SourceFacts:
        """Ask for a file's facts without reading it."""
        ...

    def head(self, url: str, revision: str | None, length: int) -> bytes:
        """Give a file's first bytes, fewer where it is shorter."""
        ...

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Give a whole file, piece by piece."""
        ...


class HeaderReader(Protocol):
    """Reads a GGUF header from a file's first bytes; raises ObstacleError when there is none."""

    def __call__(self, head: bytes, *, size_bytes: int, name: str) -> GgufHeader: ...


class LockProgress(Protocol):
    """Is told how far the entry being locked is; `done` and `total` are bytes."""

    def __call__(self, key: str, done: int, total: int) -> None: ...
