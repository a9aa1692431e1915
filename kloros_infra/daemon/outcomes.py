"""Judge an answer's status: did the target serve, refuse, or fail? Values in, values out.

llama-server answers 500 for faults of the client too (seven of 51 bad requests, measured), and a target that is
blamed for them is taken from everybody. So a 500 counts against it only where nothing in the request can have
caused it: each field is one whose type and range were checked here, and the turns are what every chat template takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from kloros_infra.router.events import Outcome

# The fields of openai.Sampled, of which llama-server accepts every value that is let through.
_HARMLESS = frozenset(
    {
        "frequency_penalty",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "min_p",
        "model",
        "n_predict",
        "presence_penalty",
        "repeat_penalty",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
    }
)
_UNAVAILABLE = (502, 503, 504)
# What a remote host says to us and not to whoever asked: path, model name and credential there are ours.
_OURS = (401, 403, 404)


def outcome_of(status: int, *, is_local: bool, body: Mapping[str, Any]) -> Outcome:
    """Say what a status means for the target; `body` is the request's, which has been checked."""
    if status < 400:
        return Outcome.SERVED
    if status == 429:
        return Outcome.BUSY
    if status in _UNAVAILABLE or (status in _OURS and not is_local):
        return Outcome.UNAVAILABLE
    return Outcome.UNAVAILABLE if status == 500 and is_harmless(body) else Outcome.REFUSED


def is_harmless(body: Mapping[str, Any]) -> bool:
    """Say whether nothing in a checked chat can make a server that works answer 500."""
    messages = body.get("messages")
    return _HARMLESS.issuperset(body) and isinstance(messages, list | tuple) and _alternate(messages)


def _alternate(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Chat templates raise errors of their own for other orders, and some for a system turn."""
    for index, turn in enumerate(messages):
        role = "assistant" if index % 2 else "user"
        if turn.get("role") != role or not isinstance(turn.get("content"), str) or len(turn) != 2:
            return False
    return len(messages) % 2 == 1


def retry_after_s(value: bytes, *, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110, section 10.2.3), seconds or a date; `now` is in epoch seconds."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def is_loading(status: int, said: bytes) -> bool:
    """Say whether llama-server says that it still loads (tools/server/server.cpp, `unavailable_error`)."""
    return status == 503 and b"oading model" in said
