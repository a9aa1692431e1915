"""Weights that are files of this machine: `file:///path`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kloros_infra.adapters import weights_problems
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.weights_source import SourceFacts

SCHEME = "file://"
_PIECE_BYTES = 2**20


class LocalFiles:
    """Reads plain files. Nothing pins their bytes but their sha256."""

    def handles(self, url: str) -> bool:
        """Say whether a source is a plain file."""
        return url.startswith(SCHEME)

    def look(self, url: str) -> SourceFacts:
        """Ask for a file's size; raise UnreachableError when it is not there."""
        return SourceFacts(Origin.FILE, None, self.locate(url, None).stat().st_size)

    def head(self, url: str, revision: str | None, length: int) -> bytes:
        """Read a file's first bytes."""
        return read_head(self.locate(url, revision), length)

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Read a whole file, piece by piece."""
        return read_pieces(self.locate(url, revision))

    def locate(self, url: str, revision: str | None) -> Path:  # noqa: ARG002 - a plain file has no revisions
        """Find the file; raise UnreachableError when it is not there."""
        path = Path(url.removeprefix(SCHEME))
        if not path.is_file():
            hint = "Check the path in models.yaml; apply needs the file on the machine that it runs on."
            raise UnreachableError([weights_problems.file_missing(url, "there is no such file", hint)])
        return path

    def is_reachable(self, url: str, revision: str | None) -> bool:
        """Say whether the file is there."""
        try:
            self.locate(url, revision)
        except UnreachableError:
            return False
        return True


def read_head(path: Path, length: int) -> bytes:
    """Read a file's first bytes, fewer where it is shorter."""
    with path.open("rb") as stream:
        return stream.read(length)


def read_pieces(path: Path) -> Iterator[bytes]:
    """Read a whole file, a mebibyte at a time."""
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece
