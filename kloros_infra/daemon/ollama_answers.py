"""Say llama-server's answers in Ollama's shape: whole ones, and streams line by line. No I/O.

Ollama sends one JSON object per line; the last has `done: true` and the figures. Times come in as
`now`, in seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.daemon.openai import error_message
from kloros_infra.daemon.sse import DONE, EventReader
from kloros_infra.diagnostics import Diagnostic

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """Which of Ollama's two shapes is wanted, under which model name, and since when."""

    model: str
    is_chat: bool
    started_at: float

    def line(self, text: str, thinking: str, calls: list[dict[str, Any]], *, now: float) -> dict[str, Any]:
        """Build what a line says of the answer itself."""
        head = {"model": self.model, "created_at": rfc3339(now)}
        if not self.is_chat:
            return {**head, "response": text, **({"thinking": thinking} if thinking else {}), "done": False}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {**head, "message": message, "done": False}


@dataclass(slots=True)
class Figures:
    """What llama-server tells of an answer's cost, so far."""

    finish_reason: str
    usage: Mapping[str, Any]
    timings: Mapping[str, Any]

    def closing(self, started_at: float, now: float) -> dict[str, Any]:
        """Build the closing fields; durations are in nanoseconds, figures that are not known are left out."""
        measured = {
            "prompt_eval_count": self.usage.get("prompt_tokens"),
            "prompt_eval_duration": _as_ns(self.timings.get("prompt_ms")),
            "eval_count": self.usage.get("completion_tokens"),
            "eval_duration": _as_ns(self.timings.get("predicted_ms")),
        }
        return {
            "done": True,
            "done_reason": "length" if self.finish_reason == "length" else "stop",
            "total_duration": max(0, int((now - started_at) * NS_PER_S)),
            # Instances are resident: nothing was loaded for this request.
            "load_duration": 0,
            **{key: value for key, value in measured.items() if value is not None},
        }


class LineStream:
    """Turns the events of one streamed answer into lines."""

    def __init__(self, shape: AnswerShape) -> None:
        self._shape = shape
        self._events = EventReader()
        self._figures = Figures("", {}, {})
        self._calls: dict[int, dict[str, str]] = {}
        self.is_closed = False
        """Whether the last line, good or bad, has been given."""

    def feed(self, data: bytes, *, now: float) -> bytes:
        """Give the lines for the events that are complete now; nothing after the last line."""
        lines: list[bytes] = []
        for event in self._events.feed(data):
            if not self.is_closed:
                lines += self._lines_of(event, now)
        return b"".join(lines)

    def fail(self, text: str, code: str) -> bytes:
        """Give the last line of a stream that broke off; none if it is over already."""
        if self.is_closed:
            return b""
        self.is_closed = True
        return _line({"error": text, "code": code})

    def _lines_of(self, event: bytes, now: float) -> list[bytes]:
        if event == DONE:
            return self._close(now)
        part = parse_object(event)
        if isinstance(part, Diagnostic):
            return [self.fail("an event of the answer is not JSON", "KI824")]
        if "error" in part:
            return [self.fail(error_message(part), "KI825")]
        self._figures.usage = part.get("usage") or self._figures.usage
        self._figures.timings = part.get("timings") or self._figures.timings
        choices = part.get("choices")
        return self._lines_of_choice(choices[0], now) if choices else []

    def _lines_of_choice(self, choice: Mapping[str, Any], now: float) -> list[bytes]:
        self._figures.finish_reason = choice.get("finish_reason") or self._figures.finish_reason
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        text = delta.get("content") or choice.get("text") or ""
        thinking = delta.get("reasoning_content") or ""
        return [_line(self._shape.line(text, thinking, [], now=now))] if text or thinking else []

    def _add_call(self, part: Mapping[str, Any]) -> None:
        """Put a call together: OpenAI sends its name once and its arguments in pieces."""
        call = self._calls.setdefault(part.get("index", 0), {"name": "", "arguments": ""})
        function = part.get("function") or {}
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def _close(self, now: float) -> list[bytes]:
        self.is_closed = True
        text, calls = _calls(self._calls.values())
        lines = [_line(self._shape.line(text, "", calls, now=now))] if text or calls else []
        closing = self._figures.closing(self._shape.started_at, now)
        return [*lines, _line(self._shape.line("", "", [], now=now) | closing)]


def whole_answer(answer: Mapping[str, Any], shape: AnswerShape, *, now: float) -> bytes:
    """Say a whole chat.completion or text_completion in Ollama's shape."""
    choice: Mapping[str, Any] = next(iter(answer.get("choices") or ()), {})
    message: Mapping[str, Any] = choice.get("message") or {"content": choice.get("text")}
    broken, calls = _calls([call.get("function") or {} for call in message.get("tool_calls") or ()])
    text = (message.get("content") or "") + broken
    figures = Figures(choice.get("finish_reason") or "", answer.get("usage") or {}, answer.get("timings") or {})
    body = shape.line(text, message.get("reasoning_content") or "", calls, now=now)
    return dump(body | figures.closing(shape.started_at, now))


def loaded_answer(shape: AnswerShape, *, now: float) -> bytes:
    """Answer a request without a prompt, by which Ollama's clients have a model loaded."""
    return _line(shape.line("", "", [], now=now) | {"done": True, "done_reason": "load"})


def rfc3339(now: float) -> str:
    """Write a time as Ollama does, in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _calls(functions: Any) -> tuple[str, list[dict[str, Any]]]:
    """Give calls with their arguments as objects; those cut off in the middle come back as text."""
    broken, whole = "", []
    for function in functions:
        name, written = function.get("name") or "", function.get("arguments") or "{}"
        try:
            arguments = json.loads(written)
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            whole.append({"function": {"name": name, "arguments": arguments}})
        else:
            broken += written
    return broken, whole


def _as_ns(milliseconds: Any) -> int | None:
    return int(milliseconds * NS_PER_MS) if isinstance(milliseconds, int | float) else None


def _line(value: Mapping[str, Any]) -> bytes:
    return dump(value) + b"\n"
