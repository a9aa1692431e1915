"""Collect an upstream's answer for someone who waits for all of it, or for its words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.exchange import ResponseHead
from kloros_infra.daemon.json_body import parse_object
from kloros_infra.daemon.openai import error_message, error_status, message_in
from kloros_infra.daemon.outcomes import is_loading, outcome_of, retry_after_s
from kloros_infra.daemon.ports import Completion, Hearer, UpstreamError
from kloros_infra.daemon.sse import DONE, EventReader
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Target
from kloros_infra.router.events import Outcome


class WholeSink:
    """Collects status and body; `outcome` raises UpstreamError."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._status = 0
        self._parts: list[bytes] = []

    def on_whole(self, _content_type: bytes, body: bytes) -> None:
        self._status = 200
        self.on_body(body, is_last=True)

    def on_head(self, head: ResponseHead) -> None:
        self._status = head.status

    def on_body(self, data: bytes, *, is_last: bool) -> None:
        self._parts.append(data)
        if is_last and not self.outcome.done():
            self.outcome.set_result((self._status, b"".join(self._parts)))

    def on_failure(self, error: UpstreamError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class ChatSink:
    """Adds up a streamed chat answer, times it, and tells the hearer of each piece."""

    def __init__(self, target: Target, hearer: Hearer, asked: Mapping[str, Any], now: Callable[[], float]) -> None:
        self._target = target
        self._hearer = hearer
        self._asked = asked
        self._now = now
        self._events = EventReader()
        self._sent_at = now()
        self._first_token_at: float | None = None
        self._status = 0
        self._retry_after = b""
        self._refusal: list[bytes] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish_reason = ""
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._is_done = False
        self._is_over = False

    def on_whole(self, _content_type: bytes, body: bytes) -> None:
        self._status = 200
        self.on_body(body, is_last=True)

    def on_head(self, head: ResponseHead) -> None:
        self._status = head.status
        self._retry_after = head.retry_after

    def on_body(self, data: bytes, *, is_last: bool) -> None:
        if self._is_over:
            return
        if self._status != 200:
            self._refusal.append(data)
        else:
            for event in self._events.feed(data):
                self._take(event)
        if is_last:
            self._finish()

    def on_failure(self, error: UpstreamError) -> None:
        if not self._is_over:
            self._is_over = True
            self._hearer.on_failure(error)

    def _take(self, event: bytes) -> None:
        if self._is_over:
            return
        if event == DONE:
            self._is_done = True
            return
        part = parse_object(event)
        if isinstance(part, Diagnostic):
            self._fail(http_problems.not_http(self._target, "an event is not JSON"), Outcome.BROKEN)
            return
        if "error" in part:
            status = error_status(part, self._status)
            problem = http_problems.upstream_refused(self._target, status, error_message(part))
            # An answer that outgrew its context ends like this as well: that is no fault of the target.
            self._fail(problem, Outcome.REFUSED)
            return
        self._usage = part.get("usage") or self._usage
        self._timings = part.get("timings") or self._timings
        for choice in part.get("choices", ())[:1]:
            self._take_choice(choice)

    def _take_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        text, reasoning = delta.get("content") or "", delta.get("reasoning_content") or ""
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        if not text and not reasoning:
            return
        if self._first_token_at is None:
            self._first_token_at = self._now()
        self._text.append(text)
        self._reasoning.append(reasoning)
        self._hearer.on_delta(text, reasoning)

    def _finish(self) -> None:
        if self._is_over:
            return
        if self._status != 200:
            self._refuse(b"".join(self._refusal))
        elif self._is_done:
            self._is_over = True
            self._hearer.on_completion(self._completion())
        else:
            self._fail(http_problems.stream_incomplete(self._target), Outcome.BROKEN)

    def _refuse(self, said: bytes) -> None:
        problem = http_problems.upstream_refused(self._target, self._status, message_in(said))
        outcome = outcome_of(self._status, is_local=self._target.is_local, body=self._asked)
        self._fail(problem, Outcome.LOADING if is_loading(self._status, said) else outcome)

    def _fail(self, problem: Diagnostic, outcome: Outcome) -> None:
        error = UpstreamError(problem, outcome=outcome, started=True)
        error.retry_after_s = retry_after_s(self._retry_after, now=time.time())
        self.on_failure(error)

    def _completion(self) -> Completion:
        duration_s = self._now() - self._sent_at
        ttft_s = duration_s if self._first_token_at is None else self._first_token_at - self._sent_at
        tokens = int(self._usage.get("completion_tokens", 0))
        generating_s = duration_s - ttft_s
        # llama-server's own clock, where it has timed more than the step that came with the prompt.
        rate = self._timings.get("predicted_per_second") if self._timings.get("predicted_n", 0) > 1 else None
        return Completion(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=self._finish_reason,
            prompt_tokens=int(self._usage.get("prompt_tokens", 0)),
            completion_tokens=tokens,
            ttft_s=ttft_s,
            duration_s=duration_s,
            tokens_per_s=float(rate) if rate is not None else tokens / generating_s if generating_s > 0 else 0.0,
        )
