"""Keep what a streamed answer has said, so that another target can go on where it broke off. No I/O.

llama-server goes on from a last turn of the assistant (tools/server/README.md, "prefill"). That works for plain
text alone: the call of a tool, or a form of answer, cannot be taken up in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kloros_infra.daemon.json_body import parse_object
from kloros_infra.daemon.sse import DONE, EventReader
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.routing import RoutedPersona
from kloros_infra.router.persona import FORMS, merge_persona

LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")
_BOUNDARY = b"\n\n"


class Told:
    """What a client has been sent of an answer."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._rest = b""

    def whole_events(self, data: bytes) -> bytes:
        """Give what may be passed on: an event that is cut could not be taken up again."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not data.endswith(_BOUNDARY):
            end = data.rfind(_BOUNDARY) + len(_BOUNDARY)
            end = 0 if end < len(_BOUNDARY) else end
            data, self._rest = data[:end], data[end:]
        if data:
            self._pieces.append(data)
        return data

    def begin_anew(self) -> None:
        """Forget the event that was cut: another target goes on."""
        self._rest = b""

    def continued(
        self, body: Mapping[str, Any], persona: RoutedPersona | None, asked_as: str | None
    ) -> dict[str, Any] | None:
        """Write the request that goes on from here; None where that cannot be asked."""
        said = self._said()
        if said is None or body.get("tools") or any(body.get(form) for form in FORMS) or (body.get("n") or 1) > 1:
            return None
        text, tokens = said
        going_on = {key: _left(value, tokens) if key in LIMITS else value for key, value in body.items()}
        if isinstance(body.get("prompt"), str):
            going_on["prompt"] = body["prompt"] + text
        elif persona is not None and persona.response_format is None and not persona.tools:
            going_on = merge_persona(going_on, persona)
        elif persona is not None:
            return None
        if "messages" in going_on and text:
            going_on["messages"] = [*going_on["messages"], {"role": "assistant", "content": text}]
        return going_on if asked_as is None else {**going_on, "model": asked_as}

    def _said(self) -> tuple[str, int] | None:
        """Add up the text and its tokens; None where there is more to it than text."""
        events, text, tokens = EventReader(), [], 0
        for event in events.feed(b"".join(self._pieces)):
            part = {} if event == DONE else parse_object(event)
            if isinstance(part, Diagnostic):
                return None
            for choice in part.get("choices") or ():
                delta = choice.get("delta") or {}
                if choice.get("finish_reason") or delta.get("tool_calls") or delta.get("reasoning_content"):
                    return None
                found = delta.get("content") or choice.get("text") or ""
                text.append(found)
                tokens += bool(found)
        return "".join(text), tokens


def _left(limit: Any, tokens: int) -> Any:
    """Give what is left of a limit; -1 and nothing stand for none."""
    return max(1, limit - tokens) if isinstance(limit, int) and limit > 0 else limit
