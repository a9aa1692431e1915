"""Weights that are files of this machine: `file:///path`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kloros_infra.adapters import weights_problems
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.weights_source import SourceFacts

SCHEME = "file://"
_PIECE_BYTES = 2**20


class LocalFiles:
    """Reads plain files. Nothing pins their bytes but their sha256."""

    def handles(self, url: str) -> bool:
        """Say whether a source is a plain file."""
        return url.startswith(SCHEME)

    def look(self, url: str, revision: str | None = None) -> SourceFacts:
        """Ask for a file's size; raise UnreachableError when it is not there."""
        path = self.locate(url, revision)
        with explained(url):
            return SourceFacts(Origin.FILE, None, path.stat().st_size)

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        """Read a piece of a file."""
        return read_piece(url, self.locate(url, revision), start=start, length=length)

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Read a whole file, piece by piece."""
        return read_pieces(url, self.locate(url, revision))

    def locate(self, url: str, revision: str | None) -> Path:  # noqa: ARG002 - a plain file has no revisions
        """Find the file; raise UnreachableError when it is not there."""
        path = Path(url.removeprefix(SCHEME))
        with explained(url):
            if path.is_file():
                return path
            reason = "it is not a plain file" if path.exists() else "there is no such file"
        hint = "Check the path in models.yaml; apply needs the file on the machine that it runs on."
        raise UnreachableError([weights_problems.file_missing(url, reason, hint)])

    def is_reachable(self, url: str, revision: str | None) -> bool:
        """Say whether the file is there."""
        try:
            self.locate(url, revision)
        except (ObstacleError, UnreachableError):
            return False
        return True


def read_piece(url: str, path: Path, *, start: int, length: int) -> bytes:
    """Read a piece of a file, shorter where the file ends; raise ObstacleError where it cannot be read."""
    with explained(url), path.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)


def read_pieces(url: str, path: Path) -> Iterator[bytes]:
    """Read a whole file, a mebibyte at a time; raise ObstacleError where it cannot be read."""
    with explained(url), path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what the file system says into ObstacleError."""
    try:
        yield
    except OSError as error:
        hint = "Give the user who runs this the right to read it."
        raise ObstacleError([weights_problems.file_missing(url, error.strerror or str(error), hint)]) from error
