"""Time: `now` is monotonic and does not jump when the wall clock is set; `epoch_s` is the wall clock."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    def epoch_s(self) -> float:
        return time.time()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
