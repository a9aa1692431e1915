"""Why the router does not let an instance run."""

from __future__ import annotations

from enum import StrEnum


class StopCause(StrEnum):
    """What it stopped an instance for; a request starts it again, except what failed to load."""

    IDLE = "idle"
    """Nobody used it for its idle_timeout."""
    ROOM = "room"
    """Others need the memory."""
    ASKED = "asked"
    """An operator asked the router to stop it."""
    CRASH = "crash"
    """It ended by itself, and is started again after a pause."""
    FAILED = "failed"
    """It did not load."""
    CARD = "card"
    """A card that it needs is not to be used now, or others want it and its profile is not active."""
