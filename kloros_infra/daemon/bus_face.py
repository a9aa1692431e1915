"""The router's ChemBus face: each `llm.request` gets exactly one `llm.response.{request_id}`.

What cannot be read and has no id is counted and dropped; everything else is answered, with an answer
or with a diagnostic, however often the request arrives.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from typing import Any

from kloros_infra.daemon.bus_reply import Address, Failed, Outcome, Served, envelope
from kloros_infra.daemon.ports import Bus, Clock, Completion, Directory, UpstreamError, Upstreams
from kloros_infra.daemon.request_problems import crashed, deadline_passed, shutting_down, too_many
from kloros_infra.ir.messages import (
    HEALTH_TOPIC,
    HEARTBEAT_ECOSYSTEM,
    HEARTBEAT_TOPIC,
    LLM_ECOSYSTEM,
    REQUEST_TOPIC,
    Envelope,
    LlmRequest,
)
from kloros_infra.router.dedupe import Dropped, Fresh, Ledger, Repeat
from kloros_infra.router.persona import merge_persona
from kloros_infra.router.select import Query, Refused, Selected
from kloros_infra.router.wire import Asked, Malformed, encode, read_request

log = logging.getLogger(__name__)

ZOOID = "kloros-infra-router"
NICHE = "llm"


@dataclass(frozen=True, slots=True)
class BusLimits:
    """Bounds of the bus face: requests at once, requests waiting as well, and the time one may take."""

    running: int = 64
    pending: int = 1024
    deadline_s: float = 600.0


class BusFace:
    """Answers requests from ChemBus; `serve` takes them in, `drain` and `cut` end it."""

    def __init__(
        self, bus: Bus, directory: Directory, upstreams: Upstreams, clock: Clock, *, limits: BusLimits | None = None
    ) -> None:
        self._bus = bus
        self._directory = directory
        self._upstreams = upstreams
        self._clock = clock
        self._limits = limits or BusLimits()
        self._ledger = Ledger()
        self._turns = asyncio.Semaphore(self._limits.running)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._started_at = clock.now()
        self.answered_count = 0
        self.dropped_count = 0

    async def serve(self) -> None:
        """Take requests in for ever; each is answered by a task of its own."""
        while True:
            topic, payload = await self._bus.receive()
            # A subscription is a prefix: `llm.request.x` arrives too, and is not ours.
            if topic == REQUEST_TOPIC:
                self._take(payload)

    async def drain(self, timeout_s: float) -> None:
        """Refuse what comes from now on; wait for what is in flight, at most `timeout_s`."""
        self._is_draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def cut(self) -> None:
        """End what is still in flight; each request is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def report_health(self) -> None:
        """Publish `llm.health`."""
        self._announce(HEALTH_TOPIC, LLM_ECOSYSTEM, dict(self._directory.health()), incident=secrets.token_hex(8))

    def beat(self) -> None:
        """Publish KLoROS's HEARTBEAT; it has no incident id there either."""
        uptime_s = round(self._clock.now() - self._started_at, 1)
        facts = {"zooid": ZOOID, "niche": NICHE, "uptime_s": uptime_s, "processed_count": self.answered_count}
        self._announce(HEARTBEAT_TOPIC, HEARTBEAT_ECOSYSTEM, facts)

    def _announce(self, topic: str, ecosystem: str, facts: dict[str, Any], *, incident: str | None = None) -> None:
        ts = self._clock.epoch_s()
        message = Envelope(signal=topic, ecosystem=ecosystem, facts=facts, incident_id=incident, ts=ts)
        self._bus.publish(topic, encode(message))

    def _take(self, payload: bytes) -> None:
        asked = read_request(payload)
        request_id = asked.request_id if isinstance(asked, Malformed) else asked.request.request_id
        if request_id is None:
            self.dropped_count += 1
            log.warning("dropped a message on %s: it has no readable request_id", REQUEST_TOPIC)
            return
        address = Address(request_id, asked.incident_id, asked.trace)
        match self._ledger.arrived(request_id, payload, now=self._clock.now(), question=_question(asked)):
            case Dropped():
                return
            case Repeat(answer):
                self._bus.publish(address.topic, answer)
            case Fresh():
                if isinstance(asked, Malformed):
                    self._reply(address, Failed(asked.problem))
                else:
                    self._accept(address, asked.request)

    def _accept(self, address: Address, request: LlmRequest) -> None:
        if self._is_draining:
            self._reply(address, Failed(shutting_down(), is_temporary=True))
        elif len(self._tasks) >= self._limits.pending:
            self._reply(address, Failed(too_many(self._limits.pending), is_temporary=True))
        else:
            task = asyncio.create_task(self._answer(address, request), name=address.topic)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, address: Address, request: LlmRequest) -> None:
        outcome: Outcome = Failed(shutting_down(), is_temporary=True)
        limit_s = (request.constraints.max_latency_ms or 0) / 1000 or self._limits.deadline_s
        try:
            async with asyncio.timeout(limit_s):
                outcome = await self._outcome(request, until=self._clock.now() + limit_s)
        except TimeoutError:
            outcome = Failed(deadline_passed(limit_s), is_temporary=True)
        except Exception:  # a defect met by one request must not silence the others
            log.exception("answering %s failed", address.request_id)
            outcome = Failed(crashed())
        finally:
            # Also on the way out of a cancellation: whoever asks gets a reply.
            self._reply(address, outcome)
            _log(request, outcome)

    async def _outcome(self, request: LlmRequest, *, until: float) -> Outcome:
        """Wait for a turn, then ask the chosen instance, and another one if the first is gone."""
        arrived_at = self._clock.now()
        async with self._turns:
            queue_s = self._clock.now() - arrived_at
            outcome = await self._attempt(request, queue_s, until=until)
            if isinstance(outcome, Failed) and outcome.selected and outcome.is_temporary:
                # The instance is gone and the requester has seen nothing of it, so another may answer.
                second = await self._attempt(request, queue_s, until=until)
                # That none is left says less than what happened to the first.
                outcome = second if isinstance(second, Served) or second.selected else outcome
            return outcome

    async def _attempt(self, request: LlmRequest, queue_s: float, *, until: float) -> Outcome:
        decision = self._directory.choose(_query(request))
        if isinstance(decision, Refused):
            return Failed(decision.problem, is_temporary=decision.is_temporary)
        try:
            completion = await self._call(decision, request, until=until)
        except UpstreamError as error:
            return Failed(error.problem, is_temporary=not error.reached, selected=decision)
        return Served(decision, completion, queue_s, f"alloc_{secrets.token_hex(8)}")

    async def _call(self, selected: Selected, request: LlmRequest, *, until: float) -> Completion:
        upstream, body = selected.upstream, _body(request)
        if selected.persona:
            body = merge_persona(body, selected.persona)
            # A reply carries text alone: the call of a tool would be lost on the way.
            body.pop("tools", None)
        self._directory.started(upstream)
        reached = True
        try:
            return await self._upstreams.complete(upstream, body, deadline_s=until - self._clock.now())
        except UpstreamError as error:
            reached = error.reached
            raise
        finally:
            self._directory.finished(upstream, reached=reached)

    def _reply(self, address: Address, outcome: Outcome) -> None:
        ts = self._clock.epoch_s()
        try:
            payload = encode(envelope(address, outcome, ts=ts))
        except ValueError:  # a figure that is not a number: JSON has no word for it
            log.exception("the reply to %s cannot be written", address.request_id)
            payload = encode(envelope(address, Failed(crashed()), ts=ts))
        is_temporary = isinstance(outcome, Failed) and outcome.is_temporary
        self._ledger.answered(address.request_id, payload, now=self._clock.now(), is_temporary=is_temporary)
        self._bus.publish(address.topic, payload)
        self.answered_count += 1


def _question(asked: Asked | Malformed) -> bytes:
    """Say what is asked; metadata may differ from one sending to the next."""
    if isinstance(asked, Malformed):
        return b""
    return asked.request.model_dump_json(exclude={"metadata"}).encode()


def _query(request: LlmRequest) -> Query:
    return Query(
        purpose=request.purpose,
        model=request.model or None,
        persona=request.persona or None,
        min_context_tokens=request.constraints.min_context_tokens,
        cost_tier=request.constraints.cost_tier,
    )


def _body(request: LlmRequest) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [turn.model_dump() for turn in request.prompt]}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def _log(request: LlmRequest, outcome: Outcome) -> None:
    """Write one line per request; what was asked and answered stays out of the log."""
    if isinstance(outcome, Served):
        completion = outcome.completion
        figures = f"ttft_ms={completion.ttft_s * 1000:.0f} tokens_per_s={completion.tokens_per_s:.1f} outcome=ok"
    else:
        figures = f"ttft_ms=- tokens_per_s=- outcome={outcome.problem.code}"
    selected = outcome.selected
    model, profile = (selected.model.id, selected.upstream.profile) if selected else ("-", "-")
    asked = request.purpose or "-"
    log.info("bus id=%s purpose=%s model=%s profile=%s %s", request.request_id, asked, model, profile, figures)
