"""Has what changes said aloud: at once, or when the pause of its kind is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.ports import Clock
from kloros_infra.router.announcing import Announcer
from kloros_infra.router.effects import Announce


class Announcements:
    """Asks the announcer what is to be said, and wakes it; `speak` takes a text and how urgent it is."""

    def __init__(self, desk: Desk, clock: Clock, speak: Callable[[str, float], None]) -> None:
        self._desk = desk
        self._clock = clock
        self._speak = speak
        self._announcer = Announcer()
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, announce: Announce) -> None:
        """Take in that something has changed."""
        self._announcer.take(announce)
        self._say()

    def _say(self) -> None:
        wanted, now = self._desk.table.announcements, self._clock.now()
        for text in self._announcer.due(wanted, now):
            if wanted is not None:
                self._speak(text, wanted.urgency)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._announcer.next_at()
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._say)
