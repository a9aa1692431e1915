"""Weights that come as files of installed Python packages: `package://module/path/in/it`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.local_files import explained, read_piece, read_pieces
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.weights_source import SourceFacts

SCHEME = "package://"


class PackageFiles:
    """Reads files of installed distributions; name and version of the distribution are the revision."""

    def handles(self, url: str) -> bool:
        """Say whether a source is a package's file."""
        return url.startswith(SCHEME)

    def look(self, url: str, revision: str | None = None) -> SourceFacts:
        """Ask which version is installed; raise UnreachableError when the package or the file is missing."""
        path = self.locate(url, revision)
        with explained(url):
            return SourceFacts(Origin.PACKAGE, _revision(_module(url), path), path.stat().st_size)

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        """Read a piece of a file."""
        return read_piece(url, self.locate(url, revision), start=start, length=length)

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Read a whole file, piece by piece."""
        return read_pieces(url, self.locate(url, revision))

    def locate(self, url: str, revision: str | None) -> Path:  # noqa: ARG002 - there is the installed one, or none
        """Find the file; raise UnreachableError when it is not installed."""
        with explained(url):
            path = find_in_package(url)
        if path is None:
            module = _module(url)
            reason = f"no installed package has a module {module}" if not _folders(module) else "the package lacks it"
            hint = "Install the package into the environment that kloros-infra runs in (kloros-infra[demo] has some)."
            raise UnreachableError([weights_problems.file_missing(url, reason, hint)])
        return path

    def is_reachable(self, url: str, revision: str | None) -> bool:  # noqa: ARG002 - the sha256 tells whether it is the one
        """Say whether the file is installed."""
        try:
            return find_in_package(url) is not None
        except OSError:
            return False


def find_in_package(url: str) -> Path | None:
    """Find the file of `package://module/file` without importing anything; None when it is not there."""
    module, _, file = url.removeprefix(SCHEME).partition("/")
    top, *inner = module.split(".")
    candidates = (folder.joinpath(*inner, file) for folder in _folders(top))
    return next((path for path in candidates if path.is_file()), None)


def _module(url: str) -> str:
    """Name the top-level module of a source."""
    return url.removeprefix(SCHEME).partition("/")[0].partition(".")[0]


def _folders(module: str) -> tuple[Path, ...]:
    """Find a top-level module's folders. Importing the parent of a dotted name would run its code."""
    spec = PathFinder.find_spec(module)
    return tuple(Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ())


def _revision(module: str, file: Path) -> str | None:
    """Name the distribution that brought a file, and its version; None for a folder on the path."""
    names = _distributions().get(module, [])
    # Several distributions may share a module, a namespace: the version of another says nothing about this file.
    name = next((name for name in names if len(names) == 1 or _has_file(name, file)), None)
    return None if name is None else f"{name} {metadata.version(name)}"


def _has_file(name: str, file: Path) -> bool:
    """Say whether a distribution's record lists a file."""
    found = metadata.distribution(name)
    return any(one.name == file.name and Path(str(one.locate())) == file for one in found.files or ())


@cache
def _distributions() -> dict[str, list[str]]:
    """Map modules to distributions; asking every one of them takes a while."""
    found = metadata.packages_distributions()
    return {module: sorted(set(names)) for module, names in found.items()}
