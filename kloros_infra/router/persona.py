"""Merge a persona into an OpenAI chat body, the same way for ChemBus and HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kloros_infra.ir.routing import RoutedPersona

SYSTEM_ROLES = ("system", "developer")
FORMS = ("response_format", "json_schema", "grammar")
"""Ways to ask llama-server for a form of answer; it takes one of them at a time."""


def merge_persona(body: Mapping[str, Any], persona: RoutedPersona) -> dict[str, Any]:
    """Put the persona's system prompt first, and fill in what the request leaves open: sampling, form, tools."""
    left_open = {key: value for key, value in persona.sampling.items() if body.get(key) is None}
    if body.get("max_completion_tokens") is not None:
        # OpenAI's newer spelling of the same limit.
        left_open.pop("max_tokens", None)
    merged = {
        **body,
        **left_open,
        **_form(body, persona),
        "messages": _with_system(body.get("messages", ()), persona.system_prompt),
    }
    stop = [*persona.stop, *_as_list(body.get("stop"))]
    return {**merged, "stop": list(dict.fromkeys(stop))} if stop else merged


def _form(body: Mapping[str, Any], persona: RoutedPersona) -> dict[str, Any]:
    """Give the persona's form of answer and its tools; a request that has a form or tools knows what it wants."""
    form: dict[str, Any] = {}
    if persona.response_format is not None and not any(body.get(key) for key in FORMS):
        form["response_format"] = persona.response_format
    if persona.tools and not body.get("tools"):
        form["tools"] = list(persona.tools)
    return form


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
