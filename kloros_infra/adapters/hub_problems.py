"""What the hub's refusals mean, and which of them pass when one waits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The base of its HTTP client's errors: which client that is depends on the version.
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # imported there, not listed

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.hub_place import HubPlace
from kloros_infra.adapters.hub_settings import unusable_settings
from kloros_infra.errors import KlorosError, ObstacleError, UnreachableError
from kloros_infra.ir.lock import COMMIT_PATTERN

_SPELLING = "Check the spelling of owner, repository and file."
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS, _SERVER_ERROR = 401, 403, 429, 500
_SHOWN = 3
# What its client makes of answers that are not the hub's, and of proxies for which a package is missing.
_NONSENSE = (ValueError, LookupError, TypeError, AttributeError, ImportError)
# What it makes of addresses that are none, its own or those that it is sent to: an Exception and no more.
_NO_ADDRESS = "InvalidURL"


Siblings = Callable[[], tuple[str, ...] | None]
"""Lists the files of a repository, if it can."""


@contextmanager
def explained(place: HubPlace, revision: str | None, siblings: Siblings = lambda: None) -> Iterator[None]:
    """Turn whatever comes of asking the hub into ObstacleError or UnreachableError."""
    try:
        yield
    except HfHubHTTPError as error:
        raise problem_of(error, place, revision, siblings) from error
    except HFValidationError as error:
        hint = "Check the spelling of owner and repository."
        raise ObstacleError([weights_problems.hub_lacks(place.url, "no repository is called so", hint)]) from error
    except (ClientError, OSError) as error:
        _refuse_settings(error)
        raise UnreachableError([weights_problems.hub_unreachable(place.url, transport_problem(error))]) from error
    except Exception as error:
        if not isinstance(error, _NONSENSE) and type(error).__name__ != _NO_ADDRESS:
            raise
        _refuse_settings(error)
        raise not_a_hub(place, "the answer is none of a Hugging Face hub") from error


def _refuse_settings(error: Exception) -> None:
    """Blame the environment where it is at fault; the client's own words could quote a token."""
    wrong = unusable_settings()
    if wrong:
        raise ObstacleError(wrong) from error


def not_a_hub(place: HubPlace, reason: str) -> ObstacleError:
    """Say that what answers at the hub's address is none: a mirror that is none, or a network's login page."""
    hint = "Check the network for a login page, and HF_ENDPOINT, if you set it, for a mirror of the Hugging Face hub."
    return ObstacleError([weights_problems.hub_lacks(place.url, reason, hint)])


def may_pass(error: HfHubHTTPError) -> bool:
    """Say whether it is worth asking again: the hub is busy or in trouble."""
    return error.response.status_code == _TOO_MANY_REQUESTS or error.response.status_code >= _SERVER_ERROR


def is_busy(error: HfHubHTTPError) -> bool:
    """Say whether the hub wants to be left alone, whatever it is asked for."""
    return error.response.status_code == _TOO_MANY_REQUESTS or wait_asked_for_s(error) is not None


def busy_reason(error: HfHubHTTPError) -> str:
    """Say what the hub answers, and how long it wants to be left alone."""
    asked_s = wait_asked_for_s(error)
    wait = "" if asked_s is None else f" and asks to wait {asked_s:.0f} s"
    return f"the hub answers {error.response.status_code}{wait}"


def wait_asked_for_s(error: HfHubHTTPError) -> float | None:
    """Say how long the hub wants to be left alone (RFC 9110, section 10.2.3); None where it does not say."""
    written = error.response.headers.get("Retry-After", "")
    return float(written) if re.fullmatch(r"[0-9]{1,6}", written) else None


def problem_of(error: HfHubHTTPError, place: HubPlace, revision: str | None, siblings: Siblings) -> KlorosError:
    """Say what an answer means for a source; `siblings` lists its repository's files, if it can."""
    status = error.response.status_code
    revision = revision or place.revision
    if may_pass(error):
        return UnreachableError([weights_problems.hub_unreachable(place.url, busy_reason(error))])
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
            hint = _file_hint(place.file, siblings())
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


def _refused(place: HubPlace, reason: str) -> ObstacleError:
    return ObstacleError([weights_problems.hub_refused(place.url, place.repository, reason)])


def _revision_hint(revision: str | None) -> str:
    if revision and re.fullmatch(COMMIT_PATTERN, revision):
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
