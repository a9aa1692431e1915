"""What Ollama's clients may ask about models: tags, show, ps, version. Values in, values out.

Only what the routing table knows is said: there is no parameter count and no quantisation in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kloros_infra.daemon.openai import model_names, models_in_order, persona_names
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.routing import RoutedModel, RoutedPersona, RoutingTable

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# Ollama's clients look for these words to learn what a model can do; llama-server applies the
# model's own chat template, which `model_info` carries.
_PLAIN_TEMPLATE = "{{ .System }}{{ .Prompt }}"
_TOOLS_TEMPLATE = "{{ .System }}{{ .Tools }}{{ .Prompt }}"


def tags_body(table: RoutingTable) -> dict[str, Any]:
    """List every name under which a model answers (`GET /api/tags`)."""
    return {"models": [_tag(name, model) for name, model in _named(table)]}


def ps_body(table: RoutingTable, profile: str, ready_ids: Collection[str]) -> dict[str, Any]:
    """List the models that are loaded now (`GET /api/ps`)."""
    loaded = [model for model in models_in_order(table) if model.id in ready_ids and model.upstream(profile)]
    return {"models": [_tag(model.name, model) for model in loaded]}


def show_body(
    model: RoutedModel, persona: RoutedPersona | None, properties: Mapping[str, Any], *, context_tokens: int
) -> dict[str, Any]:
    """Describe a model (`POST /api/show`); `properties` is llama-server's `/props`, or empty."""
    capabilities = _capabilities(model, properties)
    template = _TOOLS_TEMPLATE if "tools" in capabilities else _PLAIN_TEMPLATE
    facts: dict[str, Any] = {
        "general.architecture": model.architecture,
        "general.basename": model.display_name,
        f"{model.architecture}.context_length": context_tokens,
    }
    if properties.get("chat_template"):
        facts["tokenizer.chat_template"] = properties["chat_template"]
    body = {"template": template, "details": _details(model), "model_info": facts, "capabilities": capabilities}
    if persona is not None:
        body |= {"system": persona.system_prompt, "parameters": _parameters(persona)}
    return body | _modified(model)


def _capabilities(model: RoutedModel, properties: Mapping[str, Any]) -> list[str]:
    if not model.kind.can_chat:
        # Ollama has no word for reranking.
        return ["embedding"] if model.kind is ModelKind.EMBEDDING else []
    caps, senses = properties.get("chat_template_caps") or {}, properties.get("modalities") or {}
    has_tools = bool(caps.get("supports_tools") or caps.get("supports_tool_calls"))
    return ["completion", *(["tools"] if has_tools else []), *(["vision"] if senses.get("vision") else [])]


def _named(table: RoutingTable) -> Iterator[tuple[str, RoutedModel]]:
    models = models_in_order(table)
    for model in models:
        for name in model_names(model):
            yield name, model
    by_id = {model.id: model for model in models}
    for persona in table.personas:
        if persona.model_id in by_id:
            for name in persona_names(persona):
                yield name, by_id[persona.model_id]


def _tag(name: str, model: RoutedModel) -> dict[str, Any]:
    size = {"size": model.size_bytes, "digest": model.sha256 or ""}
    return {"name": name, "model": name, **_modified(model), **size, "details": _details(model)}


def _details(model: RoutedModel) -> dict[str, Any]:
    return {"parent_model": "", "format": "gguf", "family": model.architecture, "families": [model.architecture]}


def _modified(model: RoutedModel) -> dict[str, str]:
    """Give a time where the version is named after its date."""
    date = _DATE.match(model.version_id)
    return {"modified_at": f"{date[0]}T00:00:00Z"} if date else {}


def _parameters(persona: RoutedPersona) -> str:
    """Write sampling as `ollama show` does, one parameter a line."""
    sampling = [f"{name} {value}" for name, value in sorted(persona.sampling.items())]
    return "\n".join([*sampling, *(f'stop "{stop}"' for stop in persona.stop)])
