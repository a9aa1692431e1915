"""A bus in memory and a clock that stands still: what the bus face needs to be tested in milliseconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any


class FakeBus:
    """Implements `daemon.ports.Bus`: messages are put in by hand, and what is published is kept."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._published = asyncio.Event()
        self.published: list[tuple[str, dict[str, Any]]] = []

    def arrive(self, topic: str, payload: bytes) -> None:
        """Let a message come in."""
        self._incoming.put_nowait((topic, payload))

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, json.loads(payload)))
        self._published.set()

    async def receive(self) -> tuple[str, bytes]:
        return await self._incoming.get()

    async def sent(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """Wait until so many messages were published."""
        await self._until(lambda: len(self.published) >= count)
        return self.published

    async def sent_on(self, topic: str) -> dict[str, Any]:
        """Wait until something was published on a topic."""
        await self._until(lambda: topic in dict(self.published))
        return dict(self.published)[topic]

    async def _until(self, is_reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_reached():
                self._published.clear()
                await self._published.wait()


class StillClock:
    """Implements `daemon.ports.Clock`; time passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def epoch_s(self) -> float:
        return 1_700_000_000.0 + self.seconds
