"""Where a file is on the hub, taken from `hf://owner/repository@revision/path/in/it`."""

from __future__ import annotations

from dataclasses import dataclass

SCHEME = "hf://"


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A source, taken apart; without a revision it is on the main branch, without a file it is a repository."""

    url: str
    repository: str
    revision: str | None
    file: str = ""


def place_of(url: str) -> HubPlace:
    """Take a source apart."""
    owner, name, file = url.removeprefix(SCHEME).split("/", 2)
    name, _, revision = name.partition("@")
    return HubPlace(url, f"{owner}/{name}", revision or None, file)
