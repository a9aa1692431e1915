"""What the hub's refusals mean, and which of them pass when one waits."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Protocol

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kloros_infra.adapters import weights_problems
from kloros_infra.errors import KlorosError, ObstacleError, UnreachableError

_SPELLING = "Check the spelling of owner, repository and file."
_COMMIT = re.compile(r"[0-9a-f]{40}")
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS, _SERVER_ERROR = 401, 403, 429, 500
_SHOWN = 3


class Place(Protocol):
    """A source on the hub, taken apart."""

    @property
    def url(self) -> str: ...
    @property
    def repository(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def file(self) -> str: ...


Siblings = Callable[[Place, str | None], tuple[str, ...] | None]


def may_pass(error: HfHubHTTPError) -> bool:
    """Say whether it is worth asking again: the hub is busy or in trouble."""
    return error.response.status_code == _TOO_MANY_REQUESTS or error.response.status_code >= _SERVER_ERROR


def wait_asked_for_s(error: HfHubHTTPError) -> float | None:
    """Say how long the hub wants to be left alone (RFC 9110, section 10.2.3); None where it does not say."""
    written = error.response.headers.get("Retry-After", "")
    return float(written) if re.fullmatch(r"[0-9]{1,6}", written) else None


def problem_of(error: HfHubHTTPError, place: Place, revision: str | None, siblings: Siblings) -> KlorosError:
    """Say what an answer means for a source; `siblings` lists its repository's files, if it can."""
    status = error.response.status_code
    revision = revision or place.revision
    if may_pass(error):
        asked_s = wait_asked_for_s(error)
        wait = "" if asked_s is None else f" and asks to wait {asked_s:.0f} s"
        return UnreachableError([weights_problems.hub_unreachable(place.url, f"the hub answers {status}{wait}")])
    match error:
        case GatedRepoError():
            return _refused(place, f"{place.repository} is gated")
        case RepositoryNotFoundError():
            reason = f"there is no repository {place.repository}, or it is private"
            hint = "Check the spelling of owner and repository; a private one needs HF_TOKEN, a token that may read it."
        case RevisionNotFoundError():
            reason, hint = f"{place.repository} has no revision {revision}", _revision_hint(revision)
        case RemoteEntryNotFoundError():
            reason = f"{place.repository} has no file {place.file}" + (f" at {revision}" if revision else "")
            hint = _file_hint(place.file, siblings(place, revision))
        case _ if status in (_UNAUTHORIZED, _FORBIDDEN):
            return _refused(place, f"the hub answers {status}")
        case _:
            reason, hint = f"the hub answers {status}", _SPELLING
    return ObstacleError([weights_problems.hub_lacks(place.url, reason, hint)])


def transport_problem(error: Exception) -> str:
    """Say in one line why no answer came."""
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__


def nobody_there(error: Exception) -> bool:
    """Say whether no connection came about: then none will in the next moment either.

    Which HTTP client huggingface_hub uses depends on its version; httpx and its successors share these names.
    """
    return type(error).__name__ in ("ConnectError", "ConnectTimeout", "OfflineModeIsEnabled")


def _refused(place: Place, reason: str) -> ObstacleError:
    return ObstacleError([weights_problems.hub_refused(place.url, place.repository, reason)])


def _revision_hint(revision: str | None) -> str:
    if revision and _COMMIT.fullmatch(revision):
        return "The commit is gone from the hub: `kloros-infra lock --upgrade MODEL` pins the newest one."
    return "Name a branch, a tag or a commit that the repository has, or none for its main branch."


def _file_hint(file: str, siblings: tuple[str, ...] | None) -> str:
    """Name the likeliest of the repository's files."""
    if siblings is None:
        return _SPELLING
    ggufs = {sibling.lower(): sibling for sibling in siblings if sibling.endswith(".gguf")}
    close = [ggufs[name] for name in get_close_matches(file.lower(), ggufs, n=_SHOWN)]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    shown = sorted(ggufs.values())[:_SHOWN]
    more = ", …" if len(ggufs) > _SHOWN else ""
    return f"It has {', '.join(shown)}{more}." if shown else "It has no GGUF files."
