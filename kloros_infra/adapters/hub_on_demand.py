"""The hub, once something of it is wanted: its library takes a third of a second to import, few commands need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from kloros_infra.adapters.hub_place import SCHEME

if TYPE_CHECKING:
    from kloros_infra.adapters.hub import HubFiles
    from kloros_infra.ir.weights_source import SourceFacts


class HubOnDemand:
    """Reads files of the hub as HubFiles does; `files` takes its place in a test."""

    def __init__(self, files: HubFiles | None = None) -> None:
        self._files = files
        self._lock = Lock()

    def handles(self, url: str) -> bool:
        """Say whether a source is on the hub."""
        return url.startswith(SCHEME)

    def look(self, url: str, revision: str | None = None) -> SourceFacts:
        """Ask for commit, size and sha256."""
        return self._hub().look(url, revision)

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        """Fetch a piece of a file, shorter where the file ends."""
        return self._hub().read(url, revision, start=start, length=length)

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Fetch a whole file and read it piece by piece."""
        return self._hub().pieces(url, revision)

    def locate(self, url: str, revision: str | None) -> Path:
        """Fetch a whole file, unless it is in the cache, and say where it is."""
        return self._hub().locate(url, revision)

    def is_reachable(self, url: str, revision: str | None) -> bool:
        """Say whether the file is in the cache or the hub answers for it."""
        return self._hub().is_reachable(url, revision)

    def _hub(self) -> HubFiles:
        """Give the one hub of all threads: what one waited for in vain, the others do not wait for again."""
        from kloros_infra.adapters.hub import HubFiles  # noqa: PLC0415 - start-up time

        with self._lock:
            self._files = self._files or HubFiles()
            return self._files
