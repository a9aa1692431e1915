"""Upstreams in memory: answers at once, unless a test holds them back or breaks them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kloros_infra.daemon.http_problems import cannot_connect
from kloros_infra.daemon.ports import Completion, UpstreamError
from kloros_infra.ir.routing import Upstream


class FakeUpstreams:
    """Implements `daemon.ports.Upstreams`."""

    def __init__(self) -> None:
        self.answer = Completion(
            text="Hello there.",
            reasoning="",
            finish_reason="stop",
            prompt_tokens=7,
            completion_tokens=3,
            ttft_s=0.0123,
            duration_s=0.5,
            tokens_per_s=45.2,
        )
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.deadlines_s: list[float] = []
        self.dead: set[str] = set()
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def complete(self, upstream: Upstream, body: Mapping[str, Any], *, deadline_s: float) -> Completion:
        self.deadlines_s.append(deadline_s)
        self.asked.append((upstream.instance, body))
        if upstream.instance in self.dead:
            raise UpstreamError(cannot_connect(upstream, "Connection refused"), reached=False, started=False)
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return self.answer

    async def is_ready(self, upstream: Upstream, *, timeout_s: float) -> bool:
        assert timeout_s > 0
        return upstream.instance not in self.dead
