"""Put what a caller asks for into the words of `llm.request`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Prompt = str | Sequence[Mapping[str, str]]
"""A text, or the turns of a conversation with `role` and `content`."""


def request_facts(
    request_id: str, prompt: Prompt, wishes: Mapping[str, Any], *, timeout_s: float, source: str | None
) -> dict[str, Any]:
    """Write a request; what is None is left to the router."""
    facts: dict[str, Any] = {"request_id": request_id, "prompt": prompt, "timeout_s": timeout_s}
    facts |= {name: value for name, value in wishes.items() if value is not None}
    if source is not None:
        facts["metadata"] = {"source_service": source, **(facts.get("metadata") or {})}
    return facts
