"""Ollama's requests: check them and say them in OpenAI's shape. Values in, values out.

Ollama's own API description is the reference (docs/api.md of ollama/ollama). Options that tune
Ollama's runner (num_gpu, main_gpu, num_ctx, num_thread, …) are accepted and have no effect: where a
model runs is models.yaml's to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kloros_infra.daemon.json_body import dump
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

    # Built when the first request needs them: a router that nobody asks in this dialect starts sooner.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)


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
        plain = {
            key: int(item) if isinstance(item, float) and item.is_integer() else item for key, item in value.items()
        }
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
    def is_raw(self) -> bool:
        """Say whether the prompt is to be taken as it is, without a chat template."""
        return False

    @property
    def is_stream(self) -> bool:
        """Say whether lines are wanted, which is Ollama's default."""
        return self.stream is not False


class OllamaChat(OllamaRequest):
    """POST /api/chat."""

    messages: list[OllamaMessage] | None = None
    tools: list[dict[str, Any]] | None = None

    @property
    def has_prompt(self) -> bool:
        """Say whether there is something to answer."""
        return bool(self.messages)

    @property
    def has_images(self) -> bool:
        """Say whether it carries pictures."""
        return any(turn.images for turn in self.messages or ())


class OllamaGenerate(OllamaRequest):
    """POST /api/generate; `context`, `template` and `keep_alive` are ignored."""

    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    suffix: Literal[""] | None = None

    @property
    def is_raw(self) -> bool:
        return self.raw is True

    @property
    def has_prompt(self) -> bool:
        """Say whether there is something to answer."""
        return bool(self.prompt or self.images)

    @property
    def has_images(self) -> bool:
        """Say whether it carries pictures."""
        return bool(self.images)


class OllamaShow(OllamaPart):
    """POST /api/show."""

    model: str | None = None
    name: str | None = None

    @property
    def model_asked(self) -> str | None:
        """Name the model; older clients call it `name`."""
        return self.model or self.name or None


AnyRequest = TypeVar("AnyRequest", OllamaChat, OllamaGenerate, OllamaShow)


def read(shape: type[AnyRequest], body: Mapping[str, Any]) -> AnyRequest | Problems:
    """Check a body; give the request or everything that is wrong with it."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        return field_problems(error)


def openai_body(request: OllamaChat | OllamaGenerate) -> dict[str, Any]:
    """Say a request as `POST /v1/chat/completions`, or, if it is raw, as `POST /v1/completions`."""
    if isinstance(request, OllamaChat):
        body = {**_sampling(request), "messages": list(_messages(request.messages or ()))}
        return {**body, "tools": request.tools} if request.tools else body
    if request.is_raw:
        return {**_sampling(request), "prompt": request.prompt or ""}
    system = [{"role": "system", "content": request.system}] if request.system else []
    question = {"role": "user", "content": _content(request.prompt or "", request.images)}
    return {**_sampling(request), "messages": [*system, question]}


def error_body(_status: int, problems: Problems) -> bytes:
    """Write Ollama's `{"error": "…"}`, with our code beside it."""
    return dump({"error": message(problems), "code": problems[0].code})


def not_found_writer(name: str | None) -> Callable[[int, Problems], bytes]:
    """Write a 404 in Ollama's own words, which its clients look for; anything else as always."""

    def write(status: int, problems: Problems) -> bytes:
        if status != 404:
            return error_body(status, problems)
        text = f"model '{name}' not found, try pulling it first. {problems[0].hint}"
        return dump({"error": text, "code": problems[0].code})

    return write


def _sampling(request: OllamaRequest) -> dict[str, Any]:
    options = request.options.model_dump(exclude_none=True) if request.options else {}
    if options.get("num_predict", 0) < 0:
        # -1 and -2 stand for "no limit", which is llama-server's default.
        del options["num_predict"]
    body: dict[str, Any] = {OPTION_FIELDS[name]: value for name, value in options.items()}
    if request.is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body | _format(request.format) | _thinking(request.think)


def _format(wanted: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if not wanted:
        return {}
    if wanted == "json":
        return {"response_format": {"type": "json_object"}}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}}


def _thinking(think: bool | str | None) -> dict[str, Any]:
    if think is None:
        return {}
    if isinstance(think, str):
        return {"reasoning_effort": think}
    return {"chat_template_kwargs": {"enable_thinking": think}}


def _messages(turns: Sequence[OllamaMessage]) -> Iterator[dict[str, Any]]:
    """Give OpenAI's messages; calls get ids, which Ollama does not have, and results refer to them."""
    unanswered: list[tuple[str, str]] = []
    calls = 0
    for turn in turns:
        body: dict[str, Any] = {"role": turn.role, "content": _content(turn.content or "", turn.images)}
        if turn.thinking:
            body["reasoning_content"] = turn.thinking
        if turn.tool_calls:
            made = [(f"call_{calls + index}", call.function) for index, call in enumerate(turn.tool_calls)]
            calls += len(made)
            unanswered += ((call_id, function.name) for call_id, function in made)
            body["tool_calls"] = [_call(call_id, function) for call_id, function in made]
        if turn.role == "tool" and unanswered:
            body["tool_call_id"] = _take_answered(unanswered, turn.tool_name)
        yield body


def _call(call_id: str, function: ToolFunction) -> dict[str, Any]:
    arguments = json.dumps(function.arguments, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": function.name, "arguments": arguments}}


def _take_answered(unanswered: list[tuple[str, str]], tool_name: str | None) -> str:
    """Find the call that a result answers: the oldest of that name, else the oldest."""
    named = (call for call in unanswered if call[1] == tool_name)
    call = next(named, unanswered[0])
    unanswered.remove(call)
    return call[0]


def _content(text: str, images: Sequence[str] | None) -> Any:
    if not images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}} for image in images]
    return [{"type": "text", "text": text}, *pictures]
