"""The router's ChemBus face: each `llm.request` gets exactly one `llm.response.{request_id}`.

Requests come over the bus and over the direct endpoint; one ledger tells what was seen before, so that a client may
ask again at either. What comes over the bus and has no readable id is counted and dropped; everything else is answered,
with an answer or with a diagnostic, however often the request arrives.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kloros_infra.daemon import bus_problems
from kloros_infra.daemon.answer_log import AnswerLog
from kloros_infra.daemon.asking import Asking
from kloros_infra.daemon.bus_flight import Client, Flight, query_of, traits_of
from kloros_infra.daemon.bus_reply import Failed, Outcome, Served, chunk_facts, facts
from kloros_infra.daemon.bus_request import BusMeans, BusRequest
from kloros_infra.daemon.ports import Bus, Clock, Direct
from kloros_infra.daemon.request_problems import crashed, shutting_down, too_many
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.messages import (
    CANCEL_TOPIC,
    LLM_ECOSYSTEM,
    PING_TOPIC,
    REQUEST_TOPIC,
    RESPONSE_PREFIX,
    WAITING_TOPIC,
    LlmRequest,
)
from kloros_infra.router.dedupe import AnsweredBefore, Dropped, Fresh, InUse, Ledger, Repeat
from kloros_infra.router.wire import (
    Asked,
    Malformed,
    facts_of,
    id_in_unreadable,
    question_of,
    read_object,
    request_id_in,
    request_in,
    signal_of,
    unreadable,
    write_message,
)

log = logging.getLogger(__name__)

RETRY_SOON_S = 1.0
LONGEST_ECHO = 1000
"""An id that cannot be one is repeated to whoever sent it, unless it is longer."""


@dataclass(frozen=True, slots=True)
class BusLimits:
    """Bounds of the bus face.

    `pending` requests wait or are being answered, one may take `deadline_s`, and each `waiting_s` those who asked
    directly and still wait are told so.
    """

    pending: int = 4096
    deadline_s: float = 600.0
    waiting_s: float = 1.0


class BusFace:
    """Answers requests from ChemBus and the direct endpoint; `open` takes them in, `close` and `cut` end it."""

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        bus: Bus,
        means: BusMeans,
        clock: Clock,
        *,
        direct: Direct | None = None,
        answers: AnswerLog | None = None,
        limits: BusLimits | None = None,
    ) -> None:
        self._bus = bus
        self._direct = direct
        self._means = means
        self._clock = clock
        self._answers = answers
        self._limits = limits or BusLimits()
        self._asking = Asking(means.desk)
        self._ledger = Ledger()
        self._flights: dict[str, Flight] = {}
        self._landed = asyncio.Event()
        self._is_closing = False
        self.incarnation = secrets.token_hex(4)
        """Tells one run of the router from the next: what a client asked of another one is to be asked again."""
        self.answered_count = 0
        self.dropped_count = 0
        self.listeners: dict[str, Callable[[bytes], None]] = {}
        """Who takes messages of further topics of the bus."""

    def open(self) -> None:
        """Know what was answered before, and take requests in from here on."""
        if self._answers is not None:
            self._answers.adopt(self._ledger)
        self._bus.listen(self._on_bus)
        if self._direct is not None:
            self._direct.listen(self._on_direct)

    async def follow(self) -> None:
        """Tell direct clients that wait that they do; who is gone is noticed by that, too."""
        while True:
            await asyncio.sleep(self._limits.waiting_s)
            before = self._clock.now() - self._limits.waiting_s
            for flight in [one for one in self._flights.values() if one.started_at <= before]:
                self._tell_waiting(flight)

    def close(self) -> None:
        """Refuse what comes from now on."""
        self._is_closing = True

    async def drained(self) -> None:
        """Wait for what is in flight."""
        while self._flights:
            self._landed.clear()
            await self._landed.wait()

    async def cut(self) -> None:
        """End what is still in flight; each request is told so. Have the last answers reach the disk."""
        for flight in tuple(self._flights.values()):
            if flight.request is not None:
                flight.request.cancel(shutting_down(), is_temporary=True)
        if self._answers is not None:
            await self._answers.close()

    # What comes in.

    def _on_bus(self, topic: str, payload: bytes) -> None:
        try:
            self._hear_bus(topic, payload)
        except Exception:  # a defect met by one message must not keep the next from being heard
            log.exception("taking a message on %s failed", topic)

    def _on_direct(self, client: bytes, payload: bytes) -> None:
        try:
            self._hear_direct(client, payload)
        except Exception:  # likewise
            log.exception("taking a message at the direct endpoint failed")

    def _hear_bus(self, topic: str, payload: bytes) -> None:
        # A subscription is a prefix: `llm.request.x` arrives too, and is not ours.
        if topic == REQUEST_TOPIC:
            self._take(None, payload, read_object(payload))
        elif topic in {CANCEL_TOPIC, PING_TOPIC}:
            self._take_word(None, topic, read_object(payload))
        elif topic in self.listeners:
            self.listeners[topic](payload)

    def _hear_direct(self, client: bytes, payload: bytes) -> None:
        message = read_object(payload)
        signal = None if message is None else signal_of(message)
        if signal in {CANCEL_TOPIC, PING_TOPIC} and signal is not None:
            self._take_word(client, signal, message)
        elif signal in {None, REQUEST_TOPIC}:
            self._take(client, payload, message)
        else:
            self.dropped_count += 1

    def _take_word(self, client: Client, topic: str, message: Mapping[str, Any] | None) -> None:
        """Do what a small message says: answer a ping, or cancel a request."""
        request_id = None if message is None else request_id_in(facts_of(message))
        if request_id is None:
            self.dropped_count += 1
        elif topic == PING_TOPIC:
            pong = {"request_id": request_id, "pong": True, "router": self.incarnation}
            self._send(client, f"{RESPONSE_PREFIX}{request_id}", pong, incident_id=request_id)
        else:
            self._cancel(client, request_id)

    def _cancel(self, client: Client, request_id: str) -> None:
        """Stop a request for whoever asked; nobody stops what another client of the direct endpoint waits for."""
        flight = None if client is None else self._flights.get(_own_key(client, request_id))
        flight = flight or self._flights.get(request_id)
        if flight is None or flight.request is None or client not in flight.askers:
            return
        problem = bus_problems.cancelled()
        if client is None or not any(one not in {None, client} for one in flight.askers):
            flight.request.cancel(problem, is_temporary=False)
        else:
            flight.askers.remove(client)
            self._refuse(client, request_id, problem)

    def _take(self, client: Client, payload: bytes, message: Mapping[str, Any] | None) -> None:
        facts_found = {} if message is None else facts_of(message)
        request_id = request_id_in(facts_found)
        if message is None or request_id is None:
            self._take_unreadable(client, payload, message)
            return
        now, question = self._clock.now(), question_of(facts_found)
        key = self._key_of(client, request_id, question)
        arrival = self._ledger.arrived(key, payload, now=now, question=question, may_double=client is None)
        if isinstance(arrival, Fresh):
            flight = Flight(self, key, request_id, (client, now))
            self._flights[key] = flight
            self._begin(flight, request_in(message), len(payload))
        elif isinstance(arrival, InUse):
            # Others hear it, too, on the bus: by the incident it can be told whose it is.
            incident_id = request_in(message).incident_id
            self._refuse(client, request_id, bus_problems.id_in_use(request_id), incident_id=incident_id)
        else:
            self._take_again(client, key, request_id, arrival)

    def _key_of(self, client: Client, request_id: str, question: bytes) -> str:
        """Say under which name a question is known.

        That is its id, at whichever door it comes in, unless another question has that: services that count meet there.
        Of the bus nobody knows who asks; each client of the direct endpoint may have ids of its own.
        """
        if client is None:
            return request_id
        own = _own_key(client, request_id)
        return own if self._ledger.knows(own) or self._ledger.is_taken(request_id, question) else request_id

    def _take_unreadable(self, client: Client, payload: bytes, message: Mapping[str, Any] | None) -> None:
        """Tell whoever asks directly what is wrong; on the bus there is no topic for it."""
        if client is None:
            self.dropped_count += 1
            log.warning("dropped a message on %s: it has no readable request_id", REQUEST_TOPIC)
            return
        asked = None if message is None else request_in(message)
        problem = asked.problem if isinstance(asked, Malformed) else unreadable()
        request_id = id_in_unreadable(payload) if message is None else facts_of(message).get("request_id")
        is_short = isinstance(request_id, str) and len(request_id) <= LONGEST_ECHO
        self._refuse(client, request_id if is_short else None, problem)

    def _take_again(
        self, client: Client, key: str, request_id: str, arrival: Dropped | Repeat | AnsweredBefore
    ) -> None:
        match arrival:
            case Dropped(is_waiting):
                if is_waiting:
                    self._join(key, client)
            case Repeat(answer):
                self._post(client, f"{RESPONSE_PREFIX}{request_id}", answer)
            case AnsweredBefore():
                self._refuse(client, request_id, bus_problems.answered_before())

    def _join(self, key: str, client: Client) -> None:
        """Answer the same request to someone else as well: a client may have come in at the other door."""
        askers = self._flights[key].askers
        if client not in askers:
            askers.append(client)

    def _begin(self, flight: Flight, asked: Asked | Malformed, size_bytes: int) -> None:
        flight.incident_id, flight.trace = asked.incident_id, asked.trace
        if isinstance(asked, Malformed):
            self.answer(flight, Failed(asked.problem))
        elif self._is_closing:
            self.answer(flight, Failed(shutting_down(), is_temporary=True, retry_after_s=RETRY_SOON_S))
        elif len(self._flights) > self._limits.pending:
            full = too_many(self._limits.pending)
            self.answer(flight, Failed(full, True, None, RETRY_SOON_S, self._limits.pending))
        else:
            self._accept(flight, asked.request, size_bytes)

    def _accept(self, flight: Flight, request: LlmRequest, size_bytes: int) -> None:
        limit_s = (request.constraints.max_latency_ms or 0) / 1000 or self._limits.deadline_s
        limit_s = min(limit_s, request.timeout_s or limit_s)
        if request.stream:
            flight.chunks = 0
        try:
            asked = self._asking.asked(
                query_of(request), traits_of(request), size_bytes, id=flight.key, limit_s=limit_s
            )
            flight.request = BusRequest(self._means, request, asked, flight, limit_s=limit_s)
            flight.request.start()
        except Exception:  # a defect met by one request must not silence the others
            log.exception("answering %s failed", flight.request_id)
            if flight.request is not None:
                flight.request.cancel(crashed(), is_temporary=False)
            self.answer(flight, Failed(crashed()))

    # What goes out.

    def send_chunk(self, flight: Flight, seq: int, text: str) -> None:
        """Send a piece of an answer to all who asked."""
        topic = f"{RESPONSE_PREFIX}{flight.request_id}"
        chunk = chunk_facts(flight.request_id, seq, text, router=self.incarnation)
        incident_id = f"{flight.incident_id or flight.request_id}.{seq}"
        ts = self._clock.epoch_s()
        payload = write_message(topic, LLM_ECOSYSTEM, chunk, ts=ts, incident_id=incident_id, trace=flight.trace)
        for client in tuple(flight.askers):
            self._post(client, topic, payload)

    def answer(self, flight: Flight, outcome: Outcome) -> None:
        """Send the answer to all who asked, and keep it for those who ask again."""
        if self._flights.pop(flight.key, None) is None:
            return
        topic = f"{RESPONSE_PREFIX}{flight.request_id}"
        payload = self._written(flight, topic, outcome)
        is_temporary = isinstance(outcome, Failed) and outcome.is_temporary
        kept = self._ledger.answered(flight.key, payload, now=self._clock.now(), is_temporary=is_temporary)
        if kept is not None and self._answers is not None:
            self._answers.add(kept)
        self.answered_count += 1
        for client in flight.askers:
            self._post(client, topic, payload)
        self._landed.set()
        if log.isEnabledFor(logging.INFO):
            _log(flight, outcome)

    def _written(self, flight: Flight, topic: str, outcome: Outcome) -> bytes:
        incident_id, ts = flight.incident_id or flight.request_id, self._clock.epoch_s()
        try:
            reply = facts(flight.request_id, outcome, chunks=flight.chunks)
            return write_message(topic, LLM_ECOSYSTEM, reply, ts=ts, incident_id=incident_id, trace=flight.trace)
        except Exception:  # whoever asks gets a reply, whatever is wrong with the answer
            log.exception("the reply to %s cannot be written", flight.request_id)
            reply = facts(flight.request_id, Failed(crashed()), chunks=flight.chunks)
            return write_message(topic, LLM_ECOSYSTEM, reply, ts=ts, incident_id=incident_id, trace=flight.trace)

    def _refuse(
        self, client: Client, request_id: str | None, problem: Diagnostic, *, incident_id: str | None = None
    ) -> None:
        """Say why there is no answer, where there is no request that could come to one."""
        topic = f"{RESPONSE_PREFIX}{request_id}" if request_id else RESPONSE_PREFIX.rstrip(".")
        reply = facts(request_id or "", Failed(problem)) | {"request_id": request_id}
        self._send(client, topic, reply, incident_id=incident_id or request_id)

    def _send(self, client: Client, topic: str, reply: Mapping[str, Any], *, incident_id: str | None = None) -> None:
        self._post(
            client, topic, write_message(topic, LLM_ECOSYSTEM, reply, ts=self._clock.epoch_s(), incident_id=incident_id)
        )

    def _post(self, client: Client, topic: str, payload: bytes) -> None:
        if client is None:
            self._bus.publish(topic, payload)
        elif self._direct is not None and not self._direct.send(client, payload):
            self._on_gone(client)

    def _tell_waiting(self, flight: Flight) -> None:
        position = self._means.desk.queue_position(flight.key)
        word = {"request_id": flight.request_id, "waiting": True, "queue_position": position}
        for client in tuple(flight.askers):
            if client is not None:
                self._send(client, WAITING_TOPIC, word)

    def _on_gone(self, client: bytes) -> None:
        """Stop what nobody waits for any more: a client of the direct endpoint has gone."""
        for flight in tuple(self._flights.values()):
            if client in flight.askers:
                flight.askers.remove(client)
                if not flight.askers and flight.request is not None:
                    # Temporary, so that it may ask again should it come back.
                    flight.request.cancel(bus_problems.cancelled(), is_temporary=True)


def _own_key(client: bytes, request_id: str) -> str:
    """Name a request of one client of the direct endpoint; no id has the sign in it."""
    return f"{request_id}@{client.hex()}"


def _log(flight: Flight, outcome: Outcome) -> None:
    """Write one line per request; what was asked and answered stays out of the log."""
    if isinstance(outcome, Served):
        completion = outcome.completion
        figures = f"ttft_ms={completion.ttft_s * 1000:.0f} tokens_per_s={completion.tokens_per_s:.1f} outcome=ok"
    else:
        figures = f"ttft_ms=- tokens_per_s=- outcome={outcome.problem.code}"
    sent = outcome.sent
    model, profile = (sent.send.model.id, sent.profile) if sent else ("-", "-")
    asked = (flight.request.asked.query.purpose if flight.request else None) or "-"
    log.info("bus id=%s purpose=%s model=%s profile=%s %s", flight.request_id, asked, model, profile, figures)
