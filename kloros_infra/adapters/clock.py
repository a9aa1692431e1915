"""Time: `now` is monotonic and does not jump when the wall clock is set; `epoch_s` is the wall clock."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clock."""

    # Called several times for every request: the C functions themselves.
    now = staticmethod(time.monotonic)
    epoch_s = staticmethod(time.time)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
