"""SIGTERM asks for a clean end, a second one for an end at once."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from kloros_infra.daemon.run import Stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_end_and_the_second_to_end_at_once(number: signal.Signals) -> None:
    async def main() -> None:
        stop = Stop()
        stop.on_signals()
        async with asyncio.timeout(10):
            os.kill(os.getpid(), number)
            await stop.wanted.wait()
            assert not stop.urgent.is_set()
            os.kill(os.getpid(), number)
            await stop.urgent.wait()

    asyncio.run(main())
