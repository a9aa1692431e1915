"""Upstreams in memory: answers at once, unless a test holds them back or breaks them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kloros_infra.daemon.http_problems import cannot_connect
from kloros_infra.daemon.ports import Completion, Hearer, UpstreamError
from kloros_infra.router.effects import Send
from kloros_infra.router.events import Outcome


class FakeCall:
    """Implements `daemon.ports.Call`."""

    def __init__(self, hearer: Hearer) -> None:
        self.hearer = hearer
        self.is_cancelled = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()


class FakeUpstreams:
    """Implements `daemon.ports.Upstreams`; an answer comes in the pieces of `pieces`, if there are any."""

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
        self.pieces: tuple[str, ...] = ()
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.calls: list[FakeCall] = []
        self.dead: set[str] = set()
        self.failure: UpstreamError | None = None
        self.then: tuple[tuple[str, ...], Completion] | None = None
        """What follows a failure: the pieces and the answer of whoever is asked next."""
        self.defect: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def chat(self, send: Send, body: Mapping[str, Any], hearer: Hearer) -> FakeCall | UpstreamError:
        self.asked.append((send.target.name, body))
        if self.defect is not None:
            raise self.defect
        call = FakeCall(hearer)
        self.calls.append(call)
        if send.target.name in self.dead:
            problem = cannot_connect(send.target, "Connection refused")
            return UpstreamError(problem, outcome=Outcome.UNREACHED, started=False)
        if self.gate.is_set():
            self._answer(hearer)
        else:
            call.task = asyncio.get_running_loop().create_task(self._answer_later(hearer))
        return call

    async def _answer_later(self, hearer: Hearer) -> None:
        await self.gate.wait()
        self._answer(hearer)

    def _answer(self, hearer: Hearer) -> None:
        for piece in self.pieces:
            hearer.on_delta(piece, "")
        if self.failure is not None:
            failure = self.failure
            if self.then is not None:
                self.failure, (self.pieces, self.answer) = None, self.then
            hearer.on_failure(failure)
        else:
            hearer.on_completion(self.answer)
