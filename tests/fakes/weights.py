"""Weights without a network: a source in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.weights_source import SourceFacts


def unreachable(url: str) -> UnreachableError:
    """Build what a source raises whose file is not there."""
    return UnreachableError([Diagnostic("KI310", "Weights not found", f"{url}: there is no such file.", "Bring it.")])


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file of the source in memory."""

    content: bytes
    revision: str | None = "1"
    is_vouched: bool = False


@dataclass
class HeldFiles:
    """A source of files in memory, which remembers what was looked at and what was read in full."""

    files: dict[str, HeldFile]
    folder: Path | None = None
    scheme: str = "held://"
    origin: Origin = Origin.PACKAGE
    looked_at: list[tuple[str, str | None]] = field(default_factory=list)
    read_in_full: list[str] = field(default_factory=list)

    def handles(self, url: str) -> bool:
        return url.startswith(self.scheme)

    def look(self, url: str, revision: str | None = None) -> SourceFacts:
        self.looked_at.append((url, revision))
        held = self._held(url)
        sha256 = hashlib.sha256(held.content).hexdigest() if held.is_vouched else None
        return SourceFacts(self.origin, held.revision, len(held.content), sha256)

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        return self._held(url).content[start : start + length]

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        content = self._held(url).content
        self.read_in_full.append(url)
        return (content[start : start + 1000] for start in range(0, len(content), 1000))

    def locate(self, url: str, revision: str | None) -> Path:
        assert self.folder is not None
        path = self.folder / url.removeprefix(self.scheme).replace("/", "_")
        if not path.exists() or path.read_bytes() != self._held(url).content:
            path.write_bytes(self._held(url).content)
        return path

    def is_reachable(self, url: str, revision: str | None) -> bool:
        return url in self.files

    def _held(self, url: str) -> HeldFile:
        if url not in self.files:
            raise unreachable(url)
        return self.files[url]
