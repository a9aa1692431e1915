"""Which target served a session last: its KV cache still holds the conversation."""

from __future__ import annotations

from typing import NamedTuple

MOST_SESSIONS = 4096


class Place(NamedTuple):
    """Where a session was served, and until when that is worth remembering."""

    target: str
    until: float


class Sessions:
    """The sessions served lately, the longest unused forgotten first."""

    def __init__(self, *, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._places: dict[str, Place] = {}  # in the order in which they were served

    def __len__(self) -> int:
        return len(self._places)

    def target(self, session: str, now: float) -> str | None:
        """Name the target that served a session, while that is worth knowing."""
        place = self._places.get(session)
        if place is None:
            return None
        if place.until <= now:
            del self._places[session]
            return None
        return place.target

    def served(self, session: str, target: str, *, until: float) -> None:
        """Remember where a session was served, until its lease ends."""
        self._places.pop(session, None)
        self._places[session] = Place(target, until)
        if len(self._places) > self._most:
            del self._places[next(iter(self._places))]

    def forget(self, target: str) -> None:
        """Forget a target's sessions: its process has ended, and its cache with it."""
        self._places = {session: place for session, place in self._places.items() if place.target != target}
