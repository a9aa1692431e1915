"""What a source of weights says about a file before anything of it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kloros_infra.ir.lock import Origin


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A file's revision and size now; `sha256` only where the source vouches for it.

    `revision` pins the bytes: a commit, or a package's version. None where nothing does, so only reading tells.
    """

    origin: Origin
    revision: str | None
    size_bytes: int
    sha256: str | None = None


class RangedFile(Protocol):
    """A file of which any piece can be read, shorter only where the file ends; `name` is what messages call it."""

    @property
    def name(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    def read(self, start: int, length: int) -> bytes: ...
