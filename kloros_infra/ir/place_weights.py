"""How weights come into the store: a step of a plan, and what a generation needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file in the store: its sources joined in order."""

    path: str
    sources: tuple[str, ...]
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PlaceWeights:
    """Bring verified weights into the store, sha256 checked on the way: one file, or all of a split GGUF.

    `sha256` is that of the lock's entry: of the one file, or of the set (`ir.split_gguf`).
    """

    key: str
    revision: str | None
    files: tuple[StoredFile, ...]
    sha256: str

    @property
    def destination(self) -> str:
        """Give the path that a server is given, and by which the store knows the weights."""
        return self.files[0].path

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(source for file in self.files for source in file.sources)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)
