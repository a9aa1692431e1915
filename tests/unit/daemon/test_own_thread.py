"""Work on a thread that nobody waits for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from threading import Event

import pytest

from kloros_infra.daemon.own_thread import OwnThread
from tests.unit.daemon.test_desk import until


def test_what_comes_of_it_is_given_and_what_it_raises_raised() -> None:
    async def within() -> None:
        thread = OwnThread()
        assert await thread.run(lambda: 3, limit_s=10) == 3
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 // 0, limit_s=10)

    asyncio.run(within())


def test_what_hangs_is_left_alone_and_may_end_when_nobody_waits() -> None:
    goes_on = Event()

    async def within() -> None:
        thread = OwnThread()
        assert not thread.is_busy
        with pytest.raises(TimeoutError):
            await thread.run(goes_on.wait, limit_s=0.05)
        assert thread.is_busy
        goes_on.set()
        await until(lambda: not thread.is_busy)

    asyncio.run(within())


def test_what_ends_after_the_loop_tells_nobody() -> None:
    goes_on, thread = Event(), OwnThread()

    async def within() -> None:
        with pytest.raises(TimeoutError):
            await thread.run(goes_on.wait, limit_s=0.05)

    asyncio.run(within())
    goes_on.set()
    deadline = time.monotonic() + 10
    while thread.is_busy:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # the pause between two polls of a condition with a deadline


def test_a_program_ends_while_it_hangs() -> None:
    program = """
import asyncio, threading
from kloros_infra.daemon.own_thread import OwnThread
async def main():
    try:
        await OwnThread().run(threading.Event().wait, limit_s=0.05)
    except TimeoutError:
        print("hangs")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "hangs\n"
