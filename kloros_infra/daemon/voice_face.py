"""KLoROS's own way to ask for words: `VOICE.ORCHESTRATOR.LLM.REQUEST`, as its voice zooid answers it.

An answer goes to everybody on one topic; who asked knows it by `incident_id`. A request that came twice is answered
once, also where it has no incident id: KLoROS's publishers send the first message of a topic twice, byte for byte. Who
asks again later under the same incident gets the same answer again; without an incident it is another request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from typing import Any

from pydantic import ValidationError

from kloros_infra.daemon.asking import Asking
from kloros_infra.daemon.bus_reply import Outcome, Served, spoken
from kloros_infra.daemon.bus_reports import ZOOID
from kloros_infra.daemon.bus_request import BusMeans, BusRequest
from kloros_infra.daemon.ports import Bus, Clock
from kloros_infra.daemon.request_problems import shutting_down
from kloros_infra.ir.messages import (
    VOICE_ECOSYSTEM,
    VOICE_ERROR_TOPIC,
    VOICE_READY_TOPIC,
    VOICE_RESPONSE_TOPIC,
    VOICE_SHUTDOWN_TOPIC,
    LlmRequest,
)
from kloros_infra.ir.requests import Priority
from kloros_infra.router.dedupe import Fresh, Ledger, Repeat
from kloros_infra.router.meaning import is_known
from kloros_infra.router.query import Query, Refused
from kloros_infra.router.wire import facts_of, read_object, write_message

BACKEND = "llama"
DEFAULT_TEMPERATURE = 0.8
LIMIT_S = 120.0
"""What KLoROS's zooid allows the slowest of its backends."""
PROMPT_CHARACTERS = 200
DOUBLE_S, KEPT_S = 2.0, 60.0
"""How long the same bytes are one request, and an answer is kept for who asks again."""
VOICE_PURPOSE = "voice"
SOURCE = "kloros-voice"


class _Utterance:
    """One request for words."""

    def __init__(self, face: VoiceFace, key: str, facts: Mapping[str, Any], incident_id: str | None) -> None:
        self.face = face
        self.key = key
        self.prompt = str(facts.get("prompt"))
        self.temperature = facts.get("temperature")
        self.incident_id = incident_id
        self.request: BusRequest | None = None

    # Implements `daemon.bus_request.Waiter`.

    def on_delta(self, text: str) -> None: ...

    def on_outcome(self, outcome: Outcome) -> None:
        """Say the answer, or why there is none."""
        self.face.answer(self, outcome)


class VoiceFace:
    """Answers KLoROS's requests for words; `take` gets each message of its topic."""

    def __init__(self, bus: Bus, means: BusMeans, clock: Clock) -> None:
        self._bus = bus
        self._means = means
        self._clock = clock
        self._asking = Asking(means.desk)
        self._ledger = Ledger(ttl_s=KEPT_S, max_answers=1024, double_s=DOUBLE_S)
        self._utterances: dict[str, _Utterance] = {}
        self._numbers = count(1)
        self._said = asyncio.Event()
        self._is_closing = False
        self._answered = self._failed = 0

    def take(self, payload: bytes) -> None:
        """Take a request in; what is not a JSON object is dropped, as KLoROS's receivers do."""
        message = read_object(payload)
        if message is None:
            return
        facts, incident_id = facts_of(message), message.get("incident_id")
        incident_id = incident_id if isinstance(incident_id, str) else None
        digest = sha256(repr(sorted(facts.items(), key=str)).encode()).hexdigest()
        # One incident may ask several things; without one, only the same bytes are the same request.
        key = f"{incident_id}:{digest}" if incident_id else sha256(payload).hexdigest()
        arrival = self._ledger.arrived(key, payload, now=self._clock.now())
        if isinstance(arrival, Fresh):
            self._begin(_Utterance(self, key, facts, incident_id), facts)
        elif isinstance(arrival, Repeat):
            self._bus.publish(VOICE_RESPONSE_TOPIC, arrival.answer)

    def say_ready(self) -> None:
        """Publish that words can be asked for."""
        facts = {
            "service": ZOOID,
            "zooid": ZOOID,
            "available_backends": [BACKEND],
            "default_model": self._default_model(),
            "remote_enabled": self._has_remote(),
            "local_model": self._default_model(),
        }
        self._publish(VOICE_READY_TOPIC, facts, None)

    def say_shutdown(self) -> None:
        """Publish that no more words can be asked for."""
        stats = {"total_requests": self._answered + self._failed, "successful": self._answered, "failed": self._failed}
        self._publish(VOICE_SHUTDOWN_TOPIC, {"service": ZOOID, "zooid": ZOOID, "stats": stats}, None)

    def close(self) -> None:
        """Refuse what comes from now on."""
        self._is_closing = True

    async def drained(self) -> None:
        """Wait for what is in flight."""
        while self._utterances:
            self._said.clear()
            await self._said.wait()

    def cut(self) -> None:
        """End what is still in flight; each is told so."""
        for utterance in tuple(self._utterances.values()):
            if utterance.request is not None:
                utterance.request.cancel(shutting_down(), is_temporary=True)
        self.say_shutdown()

    def answer(self, utterance: _Utterance, outcome: Outcome) -> None:
        """Say the answer once."""
        self._utterances.pop(utterance.key, None)
        if isinstance(outcome, Served):
            self._answered += 1
            said = self._publish(VOICE_RESPONSE_TOPIC, self._response(utterance, outcome), utterance.incident_id)
            self._keep(utterance, said)
        else:
            problem = outcome.problem
            attempts = utterance.request.attempts if utterance.request else 0
            self._fail(utterance, "generation_failed", f"{problem.code} {problem.summary}: {problem.detail}", attempts)
        self._said.set()

    def _begin(self, utterance: _Utterance, facts: Mapping[str, Any]) -> None:
        prompt = facts.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            self._refuse(utterance, "missing_prompt", "facts.prompt is missing or empty")
            return
        if self._is_closing:
            self._refuse(utterance, "request_handling_failed", shutting_down().detail)
            return
        id = f"voice-{utterance.key[:24]}-{next(self._numbers)}".replace(":", "-")
        wishes = {key: facts[key] for key in ("temperature", "max_tokens") if facts.get(key) is not None}
        try:
            request = LlmRequest.model_validate(
                {"request_id": "voice", "prompt": prompt, "temperature": DEFAULT_TEMPERATURE, **wishes}
            )
        except ValidationError as error:
            self._refuse(utterance, "request_handling_failed", "; ".join(one["msg"] for one in error.errors()))
            return
        body = {"messages": [{"content": prompt}], "metadata": {"source_service": SOURCE}}
        asked = self._asking.asked(self._query(facts), body, len(prompt), id=id, limit_s=LIMIT_S)
        asked = asked._replace(priority=Priority.VOICE)
        utterance.request = BusRequest(self._means, request, asked, utterance, limit_s=LIMIT_S)
        self._utterances[utterance.key] = utterance
        utterance.request.start()

    def _query(self, facts: Mapping[str, Any]) -> Query:
        """Ask for the model that is named if there is one of that name, else for what voice is given.

        KLoROS names models of its own that need not be here, `main` above all.
        """
        table, name = self._means.desk.table, facts.get("model")
        if isinstance(name, str) and name and is_known(table, name):
            return Query(model=name)
        has_voice = any(purpose.name == VOICE_PURPOSE for purpose in table.purposes)
        return Query(purpose=VOICE_PURPOSE if has_voice else None)

    def _response(self, utterance: _Utterance, served: Served) -> dict[str, Any]:
        completion = served.completion
        temperature = utterance.temperature
        return {
            "prompt": utterance.prompt[:PROMPT_CHARACTERS],
            "response": spoken(completion)[1],
            "model": served.sent.send.model.id,
            "backend": BACKEND,
            "latency": round(served.queue_s + completion.duration_s, 3),
            "temperature": DEFAULT_TEMPERATURE if temperature is None else temperature,
            "timestamp": self._clock.epoch_s(),
        }

    def _refuse(self, utterance: _Utterance, error_type: str, details: str) -> None:
        self._fail(utterance, error_type, details, 0)

    def _fail(self, utterance: _Utterance, error_type: str, details: str, attempts: int) -> None:
        self._failed += 1
        facts = {
            "error_type": error_type,
            "details": details,
            "attempt_count": attempts,
            "remote_enabled": self._has_remote(),
            "timestamp": self._clock.epoch_s(),
        }
        self._publish(VOICE_ERROR_TOPIC, facts, utterance.incident_id)
        self._keep(utterance, None)

    def _keep(self, utterance: _Utterance, said: bytes | None) -> None:
        """Keep what was said to an incident, should it ask again; an error is no answer to keep."""
        is_temporary = said is None or not utterance.incident_id
        self._ledger.answered(utterance.key, said or b"", now=self._clock.now(), is_temporary=is_temporary)

    def _has_remote(self) -> bool:
        return bool(self._means.desk.table.hosts)

    def _default_model(self) -> str | None:
        found = self._means.desk.find(self._query({}))
        return None if isinstance(found, Refused) else found.choices[0].model.id

    def _publish(self, topic: str, facts: Mapping[str, Any], incident_id: str | None) -> bytes:
        payload = write_message(topic, VOICE_ECOSYSTEM, facts, ts=self._clock.epoch_s(), incident_id=incident_id)
        self._bus.publish(topic, payload)
        return payload
