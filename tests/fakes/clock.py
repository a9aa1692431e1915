"""Time that passes only when somebody waits."""

from __future__ import annotations


class FakeClock:
    """A clock whose pauses are over at once."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.time += seconds
