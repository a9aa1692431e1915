"""Someone who waits for a chat answer, whole or in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kloros_infra.daemon.ports import Completion, UpstreamError, Upstreams
from kloros_infra.router.effects import Send


class FakeHearer:
    """Implements `daemon.ports.Hearer`; `outcome` raises UpstreamError."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self.pieces: list[tuple[str, str]] = []
        self.begun = asyncio.Event()

    def on_delta(self, text: str, reasoning: str) -> None:
        self.pieces.append((text, reasoning))
        self.begun.set()

    def on_completion(self, completion: Completion) -> None:
        self.outcome.set_result(completion)

    def on_failure(self, error: UpstreamError) -> None:
        self.outcome.set_exception(error)


async def completed(upstreams: Upstreams, send: Send, body: Mapping[str, Any], *, limit_s: float = 5.0) -> Completion:
    """Ask and wait for the whole answer; raise UpstreamError."""
    hearer = FakeHearer()
    call = upstreams.chat(send, body, hearer)
    if isinstance(call, UpstreamError):
        raise call
    async with asyncio.timeout(limit_s):
        return await hearer.outcome
