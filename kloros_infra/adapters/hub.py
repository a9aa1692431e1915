"""Weights on Hugging Face: `hf://owner/repository/path/in/it`, or `hf://owner/repository@revision/path/in/it`.

The commit is the revision. The hub vouches for the sha256 of large files, and a header is at a file's beginning, so a
file is locked without fetching the whole of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # see hub_problems
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]  # same

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.hub_patience import Condition, Patience
from kloros_infra.adapters.hub_place import SCHEME, HubPlace, place_of
from kloros_infra.adapters.hub_problems import explained, may_pass, not_a_hub, wait_asked_for_s
from kloros_infra.adapters.hub_repository import names_for_hint
from kloros_infra.adapters.local_files import read_pieces
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.ir.lock import COMMIT_PATTERN, MOST_BYTES, SHA256_PATTERN, Origin
from kloros_infra.ir.weights_source import SourceFacts

_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416

T = TypeVar("T")


class HubFiles:
    """Reads files of the hub, or of a mirror at `endpoint`; whole ones go through huggingface_hub's cache.

    A revision that is passed counts, and the one in the source where none is. What one request had to wait for in
    vain, the next ones do not wait for again.
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
        self._condition = Condition(self._patience)

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
        # Both go into the lock, and the commit into paths: a mirror may answer anything.
        if not re.fullmatch(COMMIT_PATTERN, found.commit_hash or ""):
            raise not_a_hub(place, "the answer names no commit")
        if found.size is None or not 0 <= found.size <= MOST_BYTES:
            raise not_a_hub(place, "the answer names no size that a file could have")
        etag = found.etag or ""
        vouched = etag if re.fullmatch(SHA256_PATTERN, etag) else None
        return SourceFacts(Origin.HUB, found.commit_hash, found.size, vouched)

    def read(self, url: str, revision: str | None, *, start: int, length: int) -> bytes:
        """Fetch a piece of a file, shorter where the file ends."""
        place = place_of(url)
        at = self._at(place, revision)
        return self._patiently(place, revision, lambda: self._fetch(place, at, start, length))

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
        with explained(place, revision):
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
        with explained(place, revision):
            found = try_to_load_from_cache(
                place.repository, place.file, cache_dir=self._cache, revision=revision or place.revision
            )
        return Path(found) if isinstance(found, str) else None

    def _at(self, place: HubPlace, revision: str | None) -> str:
        return hf_hub_url(place.repository, place.file, revision=revision or place.revision, endpoint=self._endpoint)

    def _fetch(self, place: HubPlace, at: str, start: int, length: int) -> bytes:
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        deadline = time.monotonic() + self._patience.piece_s
        found = bytearray()
        with get_session().stream("GET", at, headers=headers, timeout=self._patience.answer_s) as answer:
            if answer.status_code == _RANGE_NOT_SATISFIABLE:
                return b""
            hf_raise_for_status(answer)
            _check_range(place, answer.status_code, answer.headers.get("Content-Range", ""), start)
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
        left_s, wait_s = self._condition.between_s, self._patience.first_wait_s
        if self._condition.why_down:
            raise UnreachableError([weights_problems.hub_unreachable(place.url, self._condition.why_down)])
        while True:
            with explained(place, revision, lambda: self._names_beside(place, revision)):
                try:
                    found = ask()
                except (ClientError, OSError) as error:
                    pause_s = _pause_after_s(error, wait_s)
                    if pause_s is None or pause_s > left_s:
                        self._condition.failed(error)
                        raise
                else:
                    self._condition.answered()
                    return found
            self._pause(pause_s)
            left_s, wait_s = left_s - pause_s, wait_s * 2

    def _names_beside(self, place: HubPlace, revision: str | None) -> tuple[str, ...] | None:
        there = replace(place, revision=revision or place.revision)
        return names_for_hint(there, endpoint=self._endpoint, answer_s=self._patience.answer_s)


def _pause_after_s(error: Exception, usual_s: float) -> float | None:
    """Say how long to wait before asking again; None where that is of no use."""
    if not isinstance(error, HfHubHTTPError) or not may_pass(error):
        return None
    asked_s = wait_asked_for_s(error)
    return usual_s if asked_s is None else asked_s


def _check_range(place: HubPlace, status: int, said: str, start: int) -> None:
    """Make sure that a part is the one that was asked for (RFC 9110, section 14.4)."""
    if status == _PARTIAL_CONTENT and not re.fullmatch(rf"bytes {start}-[0-9]+/([0-9]+|\*)", said):
        raise not_a_hub(place, f"asked for bytes from {start} on, it sends {said[:100] or 'others'}")
