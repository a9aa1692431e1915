"""A bus in memory and a clock that stands still: what the bus face needs to be tested in milliseconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any


class FakeBus:
    """Implements `daemon.ports.Bus`: messages are put in by hand, and what is published is kept."""

    def __init__(self) -> None:
        self._hear: Callable[[str, bytes], None] | None = None
        self._published = asyncio.Event()
        self.published: list[tuple[str, dict[str, Any]]] = []

    def arrive(self, topic: str, payload: bytes) -> None:
        """Let a message come in."""
        assert self._hear is not None
        self._hear(topic, payload)

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, json.loads(payload)))
        self._published.set()

    def listen(self, hear: Callable[[str, bytes], None]) -> None:
        self._hear = hear

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


class FakeDirect:
    """Implements `daemon.ports.Direct`: messages are put in by hand, and what is sent to a client is kept."""

    def __init__(self) -> None:
        self._hear: Callable[[bytes, bytes], None] | None = None
        self.gone: set[bytes] = set()
        self.sent: list[tuple[bytes, dict[str, Any]]] = []

    def arrive(self, client: bytes, payload: bytes) -> None:
        """Let a message of a client come in."""
        assert self._hear is not None
        self._hear(client, payload)

    def listen(self, hear: Callable[[bytes, bytes], None]) -> None:
        self._hear = hear

    def send(self, client: bytes, payload: bytes) -> bool:
        if client in self.gone:
            return False
        self.sent.append((client, json.loads(payload)))
        return True


class StillClock:
    """Implements `daemon.ports.Clock`; time passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def epoch_s(self) -> float:
        return 1_700_000_000.0 + self.seconds
