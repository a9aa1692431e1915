"""Merge a persona into an OpenAI chat body, the same way for ChemBus and HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kloros_infra.ir.routing import RoutedPersona

SYSTEM_ROLES = ("system", "developer")


def merge_persona(body: Mapping[str, Any], persona: RoutedPersona) -> dict[str, Any]:
    """Put the persona's system prompt first and fill in sampling that the request leaves open."""
    left_open = {key: value for key, value in persona.sampling.items() if body.get(key) is None}
    if body.get("max_completion_tokens") is not None:
        # OpenAI's newer spelling of the same limit.
        left_open.pop("max_tokens", None)
    merged = {**body, **left_open, "messages": _with_system(body.get("messages", ()), persona.system_prompt)}
    stop = [*persona.stop, *_as_list(body.get("stop"))]
    return {**merged, "stop": list(dict.fromkeys(stop))} if stop else merged


def _with_system(messages: Sequence[Any], prompt: str) -> list[Any]:
    """Give one system message: many chat templates refuse a second."""
    if not prompt:
        return list(messages)
    first = messages[0] if messages else None
    if not isinstance(first, Mapping) or first.get("role") not in SYSTEM_ROLES:
        return [{"role": "system", "content": prompt}, *messages]
    return [{**first, "content": _joined(prompt, first.get("content"))}, *messages[1:]]


def _joined(prompt: str, content: Any) -> Any:
    """Join the persona's prompt and the request's own; content may be text or OpenAI's list of parts."""
    if isinstance(content, list):
        return [{"type": "text", "text": prompt}, *content]
    return f"{prompt}\n\n{content}" if content else prompt


def _as_list(stop: Any) -> list[Any]:
    if stop is None:
        return []
    return stop if isinstance(stop, list) else [stop]
