"""Build the `llm.response` payload (design document, section 7) and the envelope around a payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kloros_infra.daemon.ports import Completion
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.messages import LLM_ECOSYSTEM, RESPONSE_PREFIX, Envelope
from kloros_infra.router.select import Selected
from kloros_infra.router.thinking import split_thinking

MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Address:
    """Whom a reply goes to, and what of the request's envelope it carries on."""

    request_id: str
    incident_id: str | None
    trace: str | None

    @property
    def topic(self) -> str:
        return f"{RESPONSE_PREFIX}{self.request_id}"


@dataclass(frozen=True, slots=True)
class Served:
    """An answer, who gave it, and how long the request waited for its turn."""

    selected: Selected
    completion: Completion
    queue_s: float
    allocation_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, and why; `selected` is the instance that was asked, if one was."""

    problem: Diagnostic
    is_temporary: bool = False
    selected: Selected | None = None


Outcome = Served | Failed


def envelope(address: Address, outcome: Outcome, *, ts: float) -> Envelope:
    """Put a reply into its envelope; the incident id is unique per reply, as KLoROS's de-duplication needs."""
    return Envelope(
        signal=address.topic,
        ecosystem=LLM_ECOSYSTEM,
        facts=facts(address.request_id, outcome),
        incident_id=address.incident_id or address.request_id,
        trace=address.trace,
        ts=ts,
    )


def facts(request_id: str, outcome: Outcome) -> dict[str, Any]:
    """Give a reply's payload."""
    if isinstance(outcome, Served):
        return _success(request_id, outcome)
    problem, selected = outcome.problem, outcome.selected
    error = {
        "code": problem.code,
        "message": f"{problem.summary}: {problem.detail}",
        "hint": problem.hint,
        "is_temporary": outcome.is_temporary,
    }
    metadata = _who(selected) if selected else {}
    return {"request_id": request_id, "success": False, "response": "", "error": error, "metadata": metadata}


def _success(request_id: str, served: Served) -> dict[str, Any]:
    completion = served.completion
    thought, response = split_thinking(completion.text)
    reasoning = completion.reasoning or thought
    metadata = {
        **_who(served.selected),
        "allocation_id": served.allocation_id,
        "ttft_ms": round(completion.ttft_s * MILLISECONDS, 1),
        "tokens_per_sec": round(completion.tokens_per_s, 2),
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "finish_reason": completion.finish_reason,
        "queue_ms": round(served.queue_s * MILLISECONDS, 1),
        "duration_ms": round(completion.duration_s * MILLISECONDS, 1),
        **({"reasoning": reasoning} if reasoning else {}),
    }
    return {"request_id": request_id, "success": True, "response": response, "metadata": metadata}


def _who(selected: Selected) -> dict[str, Any]:
    persona = {"persona": selected.persona.id} if selected.persona else {}
    return {
        "model_id": selected.model.id,
        "version_id": selected.model.version_id,
        "profile": selected.upstream.profile,
        "instance": selected.upstream.instance,
        "reason": selected.reason,
        **persona,
    }
