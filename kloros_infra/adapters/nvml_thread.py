"""Ask NVIDIA's management library (NVML) on a thread of its own.

It may wait in the kernel for a card that has failed, and such a wait cannot be ended: the thread is left to it, and
keeps the process from nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


def in_thread(ask: Callable[[], Answer]) -> Future[Answer]:
    """Ask in a thread that does not keep the process from ending."""
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="nvml", daemon=True).start()
    return answer
