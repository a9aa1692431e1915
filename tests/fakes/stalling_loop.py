"""An event loop that can find itself stopped and continued, as by SIGSTOP and SIGCONT."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class StallingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps ahead by what is added to `lost_s`."""

    lost_s = 0.0

    def time(self) -> float:
        return super().time() + self.lost_s


def the_loop() -> StallingLoop:
    """Give the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StallingLoop)
    return loop


def run_stalling(test: Coroutine[Any, Any, None]) -> None:
    """Run a test on a loop that can stall."""
    with asyncio.Runner(loop_factory=StallingLoop) as runner:
        runner.run(test)
