"""Weights on Hugging Face: `hf://owner/repository/path/in/it`, or `hf://owner/repository@revision/path/in/it`.

The commit is the revision. The hub vouches for the sha256 of large files, and a header is at a file's beginning, so a
file is locked without fetching the whole of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

# The base of its HTTP client's errors: which client that is depends on the version.
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # imported there, not listed
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]  # same

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.hub_problems import (
    Place,
    may_pass,
    nobody_there,
    problem_of,
    transport_problem,
    wait_asked_for_s,
)
from kloros_infra.adapters.local_files import read_pieces
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.ir.lock import SHA256_PATTERN, Origin
from kloros_infra.ir.weights_source import SourceFacts

SCHEME = "hf://"
_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the hub may take: until it says something, for one piece of a file, and between attempts in all."""

    answer_s: float = 10.0
    piece_s: float = 60.0
    between_s: float = 30.0
    first_wait_s: float = 1.0


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A source, taken apart; without a revision it is on the main branch."""

    url: str
    repository: str
    revision: str | None
    file: str


def place_of(url: str) -> HubPlace:
    """Take a source apart."""
    owner, name, file = url.removeprefix(SCHEME).split("/", 2)
    name, _, revision = name.partition("@")
    return HubPlace(url, f"{owner}/{name}", revision or None, file)


class HubFiles:
    """Reads files of the hub, or of a mirror at `endpoint`; whole ones go through huggingface_hub's cache.

    A revision that is passed counts, and the one in the source where none is. Once nobody answers at the hub's
    address, the others who ask are told so without waiting again.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        cache: Path | None = None,
        patience: Patience | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._cache = cache
        self._patience = patience or Patience()
        self._pause = pause
        self._why_down = ""

    def handles(self, url: str) -> bool:
        """Say whether a source is on the hub."""
        return url.startswith(SCHEME)

    def look(self, url: str, revision: str | None = None) -> SourceFacts:
        """Ask for commit, size and sha256; raise UnreachableError or ObstacleError when they cannot be had."""
        place = place_of(url)
        at, timeout_s = self._at(place, revision), self._patience.answer_s
        found = self._patiently(
            place, revision, lambda: get_hf_file_metadata(at, timeout=timeout_s, endpoint=self._endpoint)
        )
        if found.commit_hash is None or found.size is None:
            hint = "If HF_ENDPOINT names a mirror, check that it is one of the Hugging Face hub."
            raise ObstacleError([weights_problems.hub_lacks(url, "the answer names no commit or no size", hint)])
        etag = found.etag or ""
        vouched = etag if re.fullmatch(SHA256_PATTERN, etag) else None
        return SourceFacts(Origin.HUB, found.commit_hash, found.size, vouched)

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        """Fetch a piece of a file, shorter where the file ends."""
        place = place_of(url)
        at = self._at(place, revision)
        return self._patiently(place, revision, lambda: self._fetch(at, start, length))

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Fetch a whole file and read it piece by piece."""
        return read_pieces(url, self.locate(url, revision))

    def locate(self, url: str, revision: str | None) -> Path:
        """Fetch a whole file, unless it is in the cache, and say where it is; an interrupted fetch is resumed."""
        cached = self._cached(url, revision)
        if cached is not None:
            return cached
        # A hub that cannot be reached says so at once here; a download is tried again and again.
        commit = self.look(url, revision).revision
        place = place_of(url)
        with self._explained(place, revision):
            found = hf_hub_download(
                place.repository, place.file, revision=commit, cache_dir=self._cache, endpoint=self._endpoint
            )
        return Path(found)

    def is_reachable(self, url: str, revision: str | None) -> bool:
        """Say whether the file is in the cache or the hub answers for it."""
        try:
            return self._cached(url, revision) is not None or self.look(url, revision).size_bytes >= 0
        except (ObstacleError, UnreachableError):
            return False

    def _cached(self, url: str, revision: str | None) -> Path | None:
        place = place_of(url)
        with self._explained(place, revision):
            found = try_to_load_from_cache(
                place.repository, place.file, cache_dir=self._cache, revision=revision or place.revision
            )
        return Path(found) if isinstance(found, str) else None

    def _at(self, place: HubPlace, revision: str | None) -> str:
        return hf_hub_url(place.repository, place.file, revision=revision or place.revision, endpoint=self._endpoint)

    def _fetch(self, at: str, start: int, length: int) -> bytes:
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        deadline = time.monotonic() + self._patience.piece_s
        found = bytearray()
        with get_session().stream("GET", at, headers=headers, timeout=self._patience.answer_s) as answer:
            if answer.status_code == _RANGE_NOT_SATISFIABLE:
                return b""
            hf_raise_for_status(answer)
            # A server that ignores Range sends the file from its beginning: take no more than was asked for.
            skipped = 0 if answer.status_code == _PARTIAL_CONTENT else start
            for piece in answer.iter_bytes():
                found += piece
                if len(found) >= skipped + length:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(found)} bytes came in {self._patience.piece_s:.0f} s")
        return bytes(found[skipped : skipped + length])

    def _patiently(self, place: HubPlace, revision: str | None, ask: Callable[[], T]) -> T:
        """Ask, and ask again where the hub is busy or in trouble, as long as patience lasts."""
        left_s, wait_s = self._patience.between_s, self._patience.first_wait_s
        if self._why_down:
            raise UnreachableError([weights_problems.hub_unreachable(place.url, self._why_down)])
        while True:
            with self._explained(place, revision):
                try:
                    return ask()
                except HfHubHTTPError as error:
                    asked_s = wait_asked_for_s(error)
                    pause_s = wait_s if asked_s is None else asked_s
                    if not may_pass(error) or pause_s > left_s:
                        raise
            self._pause(pause_s)
            left_s, wait_s = left_s - pause_s, wait_s * 2

    @contextmanager
    def _explained(self, place: HubPlace, revision: str | None) -> Iterator[None]:
        try:
            yield
        except HfHubHTTPError as error:
            raise problem_of(error, place, revision, self._siblings) from error
        except HFValidationError as error:
            hint = "Check the spelling of owner and repository."
            raise ObstacleError([weights_problems.hub_lacks(place.url, "no repository is called so", hint)]) from error
        except (ClientError, OSError) as error:
            if nobody_there(error):
                self._why_down = transport_problem(error)
            raise UnreachableError([weights_problems.hub_unreachable(place.url, transport_problem(error))]) from error

    def _siblings(self, place: Place, revision: str | None) -> tuple[str, ...] | None:
        """List a repository's files as far as one answer holds them, for a hint; None where that fails."""
        at = f"{self._endpoint or constants.ENDPOINT}/api/models/{place.repository}/tree/{revision or 'main'}"
        try:
            answer = get_session().get(
                at, params={"recursive": True}, headers=build_hf_headers(), timeout=self._patience.answer_s
            )
            hf_raise_for_status(answer)
            return tuple(entry["path"] for entry in answer.json() if entry["type"] == "file")
        except (ClientError, OSError, ValueError, LookupError, TypeError):
            return None
