"""Checks of personas against the models that answer for them (KI215, KI237, KI238, KI263, KI264)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import ResponseType


def check_personas(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find personas over models that cannot chat."""
    kinds = {model.id: model.kind for model in parsed.config.models}
    for index, persona in enumerate(parsed.config.personas):
        kind = kinds.get(persona.base_model)
        if kind is not None and not kind.can_chat:
            problem = Diagnostic(
                code="KI215",
                summary="Persona over a model that does not chat",
                detail=f"{persona.base_model} is of kind {kind}; {persona.id} needs a model that chats.",
                hint="Choose a base_model of kind chat or vision.",
            )
            yield parsed.locate(problem, ("personas", index, "base_model"))


def check_response_formats(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find forms of answer that need a schema and have none, and schemas that no form asks for."""
    for index, persona in enumerate(parsed.config.personas):
        form = persona.response_format
        if form is None:
            continue
        address = ("personas", index, "response_format")
        wants_schema = form.type is ResponseType.JSON_SCHEMA
        if wants_schema and form.json_schema is None:
            detail = f"{persona.id} answers by a schema, and there is no `json_schema`."
            hint = "Add `json_schema:`, or write `type: json_object` for any JSON."
            yield parsed.locate(_no_agreement(detail, hint), (*address, "type"))
        if not wants_schema and form.json_schema is not None:
            detail = f"{persona.id} has a `json_schema`, which `type: {form.type}` does not read."
            hint = "Write `type: json_schema`, or take the schema out."
            yield parsed.locate(_no_agreement(detail, hint), (*address, "json_schema"), at_key=True)


def check_tools(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find tools that a model's call could not tell apart, or that the model is never told of."""
    templates = {model.id: model.chat_template for model in parsed.config.models}
    for index, persona in enumerate(parsed.config.personas):
        template = templates.get(persona.base_model)
        if persona.tools and template is not None:
            yield parsed.locate(_no_tools(persona.id, persona.base_model, template), ("personas", index, "tools"))
        seen: set[str] = set()
        for place, tool in enumerate(persona.tools):
            if tool.name in seen:
                problem = Diagnostic(
                    code="KI238",
                    summary="Tool declared twice",
                    detail=f"{persona.id} has two tools called {tool.name!r}; a call could mean either.",
                    hint="Give each tool a name of its own.",
                )
                yield parsed.locate(problem, ("personas", index, "tools", place, "name"))
            seen.add(tool.name)


def check_json(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find numbers that JSON, in which schemas are sent, cannot write."""
    for index, persona in enumerate(parsed.config.personas):
        if persona.response_format is not None:
            address: Address = ("personas", index, "response_format", "json_schema")
            yield from _not_json(parsed, persona.response_format.json_schema, address)
        for place, tool in enumerate(persona.tools):
            yield from _not_json(parsed, tool.parameters, ("personas", index, "tools", place, "parameters"))


def _not_json(parsed: Parsed, value: Any, address: Address) -> Iterator[Diagnostic]:
    match value:
        case dict():
            for key, item in value.items():
                yield from _not_json(parsed, item, (*address, key))
        case list():
            for place, item in enumerate(value):
                yield from _not_json(parsed, item, (*address, place))
        case float() if not math.isfinite(value):
            problem = Diagnostic(
                code="KI263",
                summary="Number that JSON cannot write",
                detail=f"Schemas are sent as JSON, which has no {parsed.source.written(address)}.",
                hint="Write a finite number, or take the key out.",
            )
            yield parsed.locate(problem, address)


def _no_tools(persona: str, model: str, template: str) -> Diagnostic:
    # llama-server applies a template of its own without jinja (--no-jinja), and then refuses requests with tools.
    return Diagnostic(
        code="KI264",
        summary="Tools that the chat template cannot carry",
        detail=f"{persona} has tools, and {model} is asked with llama.cpp's own template {template}, which has no place"
        " for tools: llama-server would refuse every request.",
        hint=f"Take `chat_template` out of {model}, so that the template of its file is used, or the tools out.",
    )


def _no_agreement(detail: str, hint: str) -> Diagnostic:
    return Diagnostic("KI237", "Response format and schema do not agree", detail, hint)
