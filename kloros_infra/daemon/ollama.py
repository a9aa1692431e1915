"""Ollama's requests: check them and say them in OpenAI's shape. Values in, values out.

Ollama's own API description is the reference (docs/api.md of ollama/ollama). Options that tune
Ollama's runner (num_gpu, main_gpu, num_ctx, num_thread, …) are accepted and have no effect: where a
model runs is models.yaml's to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.openai import field_problems, message
from kloros_infra.diagnostics import Problems

# Ollama's option → llama-server's field (tools/server/README.md).
OPTION_FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "stop": "stop",
    "num_predict": "max_tokens",
}


class OllamaPart(BaseModel):
    """A part of a request; what is not known is ignored, as Ollama does."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Options(OllamaPart):
    """Sampling; Ollama's clients write whole numbers also as 64.0."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    num_predict: Annotated[int, Field(le=2**31 - 1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        plain = {key: int(item) if isinstance(item, float) and item.is_integer() else item for key, item in value.items()}
        stop = plain.get("stop")
        if isinstance(stop, str):
            plain["stop"] = (stop,)
        elif isinstance(stop, list):
            plain["stop"] = tuple(stop)
        return plain


class ToolFunction(OllamaPart):
    """What a model called; the arguments are an object here, a string in OpenAI's shape."""

    name: str
    arguments: dict[str, Any] = {}


class ToolCall(OllamaPart):
    """A call of a tool in an earlier turn."""

    function: ToolFunction


class OllamaMessage(OllamaPart):
    """A turn."""

    role: Annotated[str, Field(min_length=1)]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None


class OllamaRequest(OllamaPart):
    """What both requests may say."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = None
    options: Options | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    think: bool | Literal["low", "medium", "high"] | None = None

    @property
    def model_asked(self) -> str | None:
        """Name the model; older clients call it `name`."""
        return self.model or self.name or None

    @property
    def is_stream(self) -> bool:
        """Say whether lines are wanted, which is Ollama's default."""
        return self.stream is not False


class OllamaChat(OllamaRequest):
    """POST /api/chat."""

    messages: list[OllamaMessage] | None = None
    tools: list[dict[str, Any]] | None = None


class OllamaGenerate(OllamaRequest):
    """POST /api/generate; `context`, `template` and `keep_alive` are ignored."""

    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    suffix: Literal[""] | None = None


class OllamaShow(OllamaPart):
    """POST /api/show."""

    model: str | None = None
    name: str | None = None


def read_chat(body: Mapping[str, Any]) -> OllamaChat | Problems:
    """Check an /api/chat body."""
    return _read(OllamaChat, body)


def read_generate(body: Mapping[str, Any]) -> OllamaGenerate | Problems:
    """Check an /api/generate body."""
    return _read(OllamaGenerate, body)


def read_show(body: Mapping[str, Any]) -> OllamaShow | Problems:
    """Check an /api/show body."""
    return _read(OllamaShow, body)


def _read[T](shape: type[T], body: Mapping[str, Any]) -> T | Problems:
    raise NotImplementedError
