"""Work that may never end, such as a driver's call that hangs: it holds up neither the loop nor the program's end.

`asyncio.to_thread` is no place for it: asyncio waits for its threads before a program ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class OwnThread:
    """One piece of work at a time, each on a thread that nobody waits for."""

    def __init__(self) -> None:
        self.is_busy = False
        """Whether work is under way, although perhaps nobody waits for it any more."""

    async def run(self, work: Callable[[], T], *, limit_s: float) -> T:
        """Do it, and give what comes of it; raise TimeoutError where that takes too long, and let it go on."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: Exception | None) -> None:
            if found.done():
                return  # nobody waits any more
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(result)  # type: ignore[arg-type]  # None only where T has it

        def do() -> None:
            result, failure = None, None
            try:
                result = work()
            except Exception as error:  # it is for whoever waits
                failure = error
            self.is_busy = False
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, result, failure)

        self.is_busy = True
        Thread(target=do, daemon=True).start()
        async with asyncio.timeout(limit_s):
            return await found
