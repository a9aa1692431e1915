"""Build the `llm.response` payload (design document, section 7), whole and in pieces."""

from __future__ import annotations

from typing import Any, NamedTuple

from kloros_infra.daemon.ports import Completion
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.router.effects import Send
from kloros_infra.router.thinking import split_thinking

MILLISECONDS = 1000


class Sent(NamedTuple):
    """To whom a request was sent, and under which profile."""

    send: Send
    profile: str


class Served(NamedTuple):
    """An answer, who gave it, and how long the request waited for its turn."""

    sent: Sent
    completion: Completion
    queue_s: float


class Failed(NamedTuple):
    """No whole answer, and why.

    `sent` says who was asked last, if anybody was, `retry_after_s` and `position` what a line that is full says of
    itself, and `partial` what had been passed on by then.
    """

    problem: Diagnostic
    is_temporary: bool = False
    sent: Sent | None = None
    retry_after_s: float | None = None
    position: int | None = None
    partial: str = ""


Outcome = Served | Failed


def facts(request_id: str, outcome: Outcome, *, chunks: int | None = None) -> dict[str, Any]:
    """Give a reply's payload; `chunks` is how many came before it, None where the answer was wanted whole."""
    reply = _success(request_id, outcome) if isinstance(outcome, Served) else _failure(request_id, outcome)
    if chunks is not None:
        reply |= {"seq": chunks, "done": True}
    return reply


def chunk_facts(request_id: str, seq: int, delta: str, *, router: str) -> dict[str, Any]:
    """Give the payload of one piece of an answer; pieces of two routers do not go together."""
    return {"request_id": request_id, "seq": seq, "delta": delta, "done": False, "router": router}


def error_facts(failed: Failed) -> dict[str, Any]:
    """Say why there is no answer, and when it may be worth asking again."""
    problem = failed.problem
    error: dict[str, Any] = {
        "code": problem.code,
        "message": f"{problem.summary}: {problem.detail}",
        "hint": problem.hint,
        "is_temporary": failed.is_temporary,
    }
    if failed.retry_after_s is not None:
        error["retry_after_s"] = round(failed.retry_after_s, 1)
    if failed.position is not None:
        error["queue_position"] = failed.position
    return error


def spoken(completion: Completion) -> tuple[str, str]:
    """Give what a model thought and what it answered."""
    thought, response = split_thinking(completion.text)
    return completion.reasoning or thought, response


def _success(request_id: str, served: Served) -> dict[str, Any]:
    completion = served.completion
    reasoning, response = spoken(completion)
    metadata = _who(served.sent)
    metadata |= {
        "allocation_id": served.sent.send.allocation_id,
        "ttft_ms": round(completion.ttft_s * MILLISECONDS, 1),
        "tokens_per_sec": round(completion.tokens_per_s, 2),
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "finish_reason": completion.finish_reason,
        "queue_ms": round(served.queue_s * MILLISECONDS, 1),
        "duration_ms": round(completion.duration_s * MILLISECONDS, 1),
    }
    if reasoning:
        metadata["reasoning"] = reasoning
    return {"request_id": request_id, "success": True, "response": response, "metadata": metadata}


def _failure(request_id: str, failed: Failed) -> dict[str, Any]:
    metadata = _who(failed.sent) if failed.sent else {}
    if failed.partial:
        metadata["partial"] = failed.partial
    error = error_facts(failed)
    return {"request_id": request_id, "success": False, "response": "", "error": error, "metadata": metadata}


def _who(sent: Sent) -> dict[str, Any]:
    send = sent.send
    who = {
        "model_id": send.model.id,
        "version_id": send.model.version_id,
        "profile": sent.profile,
        "instance": send.target.name,
        "reason": send.reason,
    }
    if send.persona:
        who["persona"] = send.persona.id
    return who
