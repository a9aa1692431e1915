"""Weights on Hugging Face: `hf://owner/repository/path/in/it`.

The commit is the revision. The hub vouches for the sha256 of large files, and a header is at a file's beginning, so a
file is locked without fetching the whole of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

# The base of its HTTP client's errors: which client that is depends on the version.
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # imported there, not listed
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]  # same

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.local_files import read_pieces
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.ir.lock import SHA256_PATTERN, Origin
from kloros_infra.ir.weights_source import SourceFacts

SCHEME = "hf://"
_TIMEOUT_S = 10.0
_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429


class HubFiles:
    """Reads files of the hub, or of a mirror at `endpoint`; whole ones go through huggingface_hub's cache."""

    def __init__(self, *, endpoint: str | None = None, cache: Path | None = None) -> None:
        self._endpoint = endpoint
        self._cache = cache

    def handles(self, url: str) -> bool:
        """Say whether a source is on the hub."""
        return url.startswith(SCHEME)

    def look(self, url: str) -> SourceFacts:
        """Ask for commit, size and sha256; raise UnreachableError or ObstacleError when they cannot be had."""
        with _explained(url):
            found = get_hf_file_metadata(self._at(url, None), timeout=_TIMEOUT_S, endpoint=self._endpoint)
        if found.commit_hash is None or found.size is None:
            raise ObstacleError([weights_problems.hub_refused(url, "the answer names no commit or no size")])
        etag = found.etag or ""
        vouched = etag if re.fullmatch(SHA256_PATTERN, etag) else None
        return SourceFacts(Origin.HUB, found.commit_hash, found.size, vouched)

    def head(self, url: str, revision: str | None, length: int) -> bytes:
        """Fetch a file's first bytes."""
        headers = {**build_hf_headers(), "Range": f"bytes=0-{length - 1}", "Accept-Encoding": "identity"}
        request = get_session().stream("GET", self._at(url, revision), headers=headers, timeout=_TIMEOUT_S)
        found = bytearray()
        with _explained(url), request as answer:
            hf_raise_for_status(answer)
            for piece in answer.iter_bytes():
                found += piece
                # A server that ignores Range sends the whole file: take no more than was asked for.
                if len(found) >= length:
                    break
        return bytes(found[:length])

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        """Fetch a whole file and read it piece by piece."""
        return read_pieces(self.locate(url, revision))

    def locate(self, url: str, revision: str | None) -> Path:
        """Fetch a whole file, unless it is in the cache, and say where it is; an interrupted fetch is resumed."""
        cached = self._cached(url, revision)
        if cached is not None:
            return cached
        # A hub that cannot be reached says so at once here; a download is tried again and again.
        self.look(url)
        repository, file = _parts(url)
        with _explained(url):
            found = hf_hub_download(repository, file, revision=revision, cache_dir=self._cache, endpoint=self._endpoint)
        return Path(found)

    def is_reachable(self, url: str, revision: str | None) -> bool:
        """Say whether the file is in the cache or the hub answers for it."""
        if self._cached(url, revision) is not None:
            return True
        try:
            self.look(url)
        except (ObstacleError, UnreachableError):
            return False
        return True

    def _cached(self, url: str, revision: str | None) -> Path | None:
        repository, file = _parts(url)
        with _explained(url):
            found = try_to_load_from_cache(repository, file, cache_dir=self._cache, revision=revision)
        return Path(found) if isinstance(found, str) else None

    def _at(self, url: str, revision: str | None) -> str:
        repository, file = _parts(url)
        return hf_hub_url(repository, file, revision=revision, endpoint=self._endpoint)


def _parts(url: str) -> tuple[str, str]:
    owner, name, file = url.removeprefix(SCHEME).split("/", 2)
    return f"{owner}/{name}", file


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS:
            raise UnreachableError([weights_problems.hub_unreachable(url, f"the hub answers {status}")]) from error
        raise ObstacleError([weights_problems.hub_refused(url, _one_line(error))]) from error
    except HFValidationError as error:
        raise ObstacleError([weights_problems.hub_refused(url, _one_line(error))]) from error
    except (ClientError, OSError) as error:
        raise UnreachableError([weights_problems.hub_unreachable(url, _one_line(error))]) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
