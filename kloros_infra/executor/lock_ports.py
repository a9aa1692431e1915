"""What locking needs of the outside world, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.weights_source import RangedFile, SourceFacts


class WeightsSource(Protocol):
    """One kind of place that weights come from; asked by several threads at a time.

    A file that cannot be had raises UnreachableError (not here, not now) or ObstacleError (wrong, or refused). Without
    a revision, that of the URL counts, or the newest.
    """

    def handles(self, url: str) -> bool: ...
    def look(self, url: str, revision: str | None = None) -> SourceFacts:
        """Ask for a file's facts without reading it."""
        ...

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        """Give a piece of a file, shorter only where the file ends."""
        ...

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Give a whole file, piece by piece."""
        ...


class HeaderReader(Protocol):
    """Reads the header of one GGUF, or of all parts of a split one; raises ObstacleError when there is none."""

    def __call__(self, files: Sequence[RangedFile], *, name: str) -> GgufHeader: ...


class LockProgress(Protocol):
    """Is told by several threads how far an entry being read is; `done` and `total` are bytes."""

    def __call__(self, key: str, done: int, total: int) -> None: ...


class LockRecord(Protocol):
    """Is told each entry that was read, as soon as it is whole, by the thread that locks."""

    def __call__(self, entry: LockedWeights, /) -> None: ...
