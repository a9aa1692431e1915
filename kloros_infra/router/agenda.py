"""What is to be looked at again, and when: one heap for all that waits for time to pass.

An entry is a reminder and no promise: whoever is reminded looks whether it is still due.
"""

from __future__ import annotations

from enum import IntEnum
from heapq import heapify, heappop, heappush


class Due(IntEnum):
    """What a reminder is about; its key is an instance, a host, a target, a request or a lease."""

    POLL_INSTANCE = 0
    POLL_HOST = 1
    IDLE = 2
    DRAINED = 3
    LOADED = 4
    RESTART = 5
    DEADLINE = 6
    PASSES = 7
    LEASE = 8
    ROOM = 9
    YOUNG = 10


NEVER = float("inf")
LEAST_CLEARED = 64
"""So many reminders that were taken back may lie in the heap, however few stand."""

Reminder = tuple[float, Due, str]
"""When, about what (`Due`), and for which key."""


class Agenda:
    """Reminders by time; the same one is kept once."""

    def __init__(self) -> None:
        self.earliest = NEVER
        """No reminder is due before; `next_at` says it exactly, which takes longer."""
        self._heap: list[Reminder] = []
        self._known: dict[tuple[Due, str], float] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def note(self, at: float, due: Due, key: str) -> None:
        """Remind at a time; an earlier reminder of the same stands, a later one gives way."""
        known = self._known.get((due, key))
        if known is None or at < known:
            self.move(at, due, key)

    def move(self, at: float, due: Due, key: str) -> None:
        """Remind at a time and at no other."""
        self._known[(due, key)] = at
        self.earliest = min(self.earliest, at)
        heappush(self._heap, (at, due, key))
        if len(self._heap) > LEAST_CLEARED + 2 * len(self._known):
            self._heap = [(at, due, key) for (due, key), at in self._known.items()]
            heapify(self._heap)

    def is_noted(self, due: Due, key: str) -> bool:
        """Say whether there is a reminder."""
        return (due, key) in self._known

    def forget(self, due: Due, key: str) -> None:
        """Take a reminder back; its place in the heap goes when its time comes."""
        self._known.pop((due, key), None)

    def next_at(self) -> float | None:
        """Say when the next reminder is due."""
        while self._heap:
            at, due, key = self._heap[0]
            if self._known.get((due, key)) == at:
                self.earliest = at
                return at
            heappop(self._heap)
        self.earliest = NEVER
        return None

    def take(self, now: float) -> tuple[Due, str] | None:
        """Take one reminder that is due."""
        at = self.next_at()
        if at is None or at > now:
            return None
        _, due, key = heappop(self._heap)
        del self._known[(due, key)]
        return due, key
