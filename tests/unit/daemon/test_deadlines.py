"""Deadlines, and what becomes of them when this process stands still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from kloros_infra.daemon.deadlines import DeadlineWatch, fair_timeout
from tests.fakes.stalling_loop import run_stalling, the_loop

SWEEP_S = 0.01


@dataclass(eq=False)
class Thing:
    """Something watched, that notes what it is told."""

    deadline: float
    told: list[str] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def expire(self, now: float) -> None:
        self.told.append("expired")
        self.deadline = float("inf")
        self.heard.set()

    def put_off(self, lag_s: float, now: float) -> None:
        self.told.append(f"{lag_s:.0f} s lost")


def test_after_a_pause_nothing_expires_before_what_came_could_be_read() -> None:
    async def test() -> None:
        watch: DeadlineWatch[Thing] = DeadlineWatch(SWEEP_S)
        thing = Thing(the_loop().time() + 5.0)
        watch.add(thing)
        the_loop().lost_s += 38.0
        async with asyncio.timeout(5):
            await thing.heard.wait()
        assert thing.told == ["38 s lost", "expired"]
        watch.close()

    run_stalling(test())


def test_a_limit_does_not_count_the_time_in_which_this_process_stood_still() -> None:
    async def test() -> None:
        answer = the_loop().create_future()
        async with fair_timeout(0.5):
            the_loop().lost_s += 38.0
            the_loop().call_later(0.02, answer.set_result, None)
            await answer

    run_stalling(test())


def test_a_limit_ends_what_takes_longer() -> None:
    async def test() -> None:
        with pytest.raises(TimeoutError):
            async with fair_timeout(0.02):
                await asyncio.Event().wait()

    run_stalling(test())
