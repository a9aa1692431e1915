"""Run tasks in a few threads, which an interruption leaves behind.

The standard pool's threads are waited for when the program ends, and one of them may be waiting for a hub that does
not answer: Ctrl-C would seem to do nothing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def side_by_side(tasks: Sequence[Callable[[], T]], *, most: int) -> Iterator[T]:
    """Yield what tasks return, as they end; raise what one of them raises."""
    waiting: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    for number in range(min(most, len(tasks))):
        threading.Thread(target=_work, args=(waiting, ended), name=f"task-{number}", daemon=True).start()
    for _ in tasks:
        value, error = ended.get()
        if error is not None:
            raise error
        yield value  # type: ignore[misc]  # a task that raised nothing has returned its value


def _work(
    waiting: queue.SimpleQueue[Callable[[], T]], ended: queue.SimpleQueue[tuple[T | None, BaseException | None]]
) -> None:
    while True:
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            ended.put((task(), None))
        except BaseException as error:
            ended.put((None, error))
