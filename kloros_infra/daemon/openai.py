"""OpenAI's shapes: check requests, write errors and listings. Values in, values out.

Unknown fields are let through untouched (tools, response_format, logprobs, …): llama-server knows
more of them than any list here could. Refused are those in REFUSED_FIELDS, and picture addresses
that llama-server would fetch itself. Known fields must have their type, because llama-server
answers 500 to some wrong ones, which must not look like its own fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.json_body import dump, parse_object
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.routing import RoutedModel, RoutedPersona, RoutingTable
from kloros_infra.router.meaning import is_same_name

REFUSED_FIELDS = {
    "n_discard": "it has been used to write outside of llama-server's memory (CVE-2026-21869)",
    "n_keep": "context shifting is not open to requests",
    "id_slot": "slots are llama-server's to give",
    "slot_id": "slots are llama-server's to give",
    "chat_template": "templates are code; the model's own is used",
    "lora": "adapters are not open to requests",
    "speculative.n_max": "speculation is set for the instance",
    "speculative.n_min": "speculation is set for the instance",
    "speculative.p_min": "speculation is set for the instance",
}

Flag = bool | None
# llama-server reads these as 32 bit integers (common/common.h, struct common_params_sampling).
Count = Annotated[int, Field(ge=-1, le=2**31 - 1)] | None
Seed = Annotated[int, Field(ge=-1, le=2**32 - 1)] | None
Number = Annotated[float, Field(ge=-1e6, le=1e6)] | None
Stop = str | Annotated[list[str], Field(max_length=64)] | None
# Fields that are not named are let through: ignored here, as nobody uses the checked copy, and a third cheaper.
_OPEN = ConfigDict(extra="ignore", strict=True)


class ImageAddress(TypedDict, total=False):
    """A picture; llama-server would fetch any other address itself."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    url: Required[Annotated[str, Field(pattern=r"^data:")]]


class ContentPart(TypedDict, total=False):
    """A part of a message."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    type: Required[str]
    text: str
    image_url: ImageAddress


class Message(TypedDict, total=False):
    """A turn."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    role: Required[Annotated[str, Field(min_length=1)]]
    content: str | list[ContentPart] | None
    tool_calls: list[dict[str, Any]] | None


class Asked(TypedDict, total=False):
    """What every request may say."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    model: str | None
    metadata: dict[str, Any] | None


class Sampled(Asked, total=False):
    """What every request for text may say."""

    stream: Flag
    stream_options: dict[str, Any] | None
    max_tokens: Count
    max_completion_tokens: Count
    n_predict: Count
    n: Annotated[int, Field(ge=1, le=16)] | None
    seed: Seed
    top_k: Count
    temperature: Number
    top_p: Number
    min_p: Number
    repeat_penalty: Number
    presence_penalty: Number
    frequency_penalty: Number
    stop: Stop


class ChatRequest(Sampled, total=False):
    """POST /v1/chat/completions."""

    messages: Required[Annotated[list[Message], Field(min_length=1)]]
    tools: list[dict[str, Any]] | None
    response_format: dict[str, Any] | None


class CompletionRequest(Sampled, total=False):
    """POST /v1/completions; a prompt may also be tokens, or many prompts."""

    prompt: Required[str | Annotated[list[Any], Field(min_length=1)]]


class RerankRequest(Asked, total=False):
    """POST /v1/rerank; Jina's shape, whose `documents` the text-embeddings-inference server calls `texts`."""

    query: Required[Annotated[str, Field(min_length=1)]]
    documents: Annotated[list[str], Field(min_length=1)]
    texts: Annotated[list[str], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None


class EmbeddingRequest(Asked, total=False):
    """POST /v1/embeddings."""

    input: Required[Annotated[str, Field(min_length=1)] | Annotated[list[Any], Field(min_length=1)]]
    encoding_format: Literal["float", "base64"] | None


_SHAPES = {
    "/v1/chat/completions": TypeAdapter(ChatRequest).validator,
    "/v1/completions": TypeAdapter(CompletionRequest).validator,
    "/v1/embeddings": TypeAdapter(EmbeddingRequest).validator,
    "/v1/rerank": TypeAdapter(RerankRequest).validator,
    "/rerank": TypeAdapter(RerankRequest).validator,
}
_REFUSED = frozenset(REFUSED_FIELDS)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def check(path: str, body: Mapping[str, Any]) -> Problems:
    """Say everything that is wrong with a request body."""
    found: Problems = ()
    try:
        _SHAPES[path].validate_python(body)
    except ValidationError as error:
        found = field_problems(error)
    if _REFUSED.isdisjoint(body):
        return found
    refused = sorted(_REFUSED.intersection(body))
    return tuple(http_problems.refused_field(name, REFUSED_FIELDS[name]) for name in refused) + found


def field_problems(error: ValidationError) -> Problems:
    """Turn pydantic's findings into diagnostics, one per place: of a union's branches the last one speaks."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"] if not _is_branch(part))
        found[where] = item["msg"][:1].lower() + item["msg"][1:]
    return tuple(http_problems.bad_field(where, reason) for where, reason in sorted(found.items()))


def _is_branch(part: str | int) -> bool:
    """Tell a union's branch (`list[ContentPart]`, `str`) from a key or index of the body."""
    return isinstance(part, str) and (part in ("str", "float", "int") or "[" in part)


def model_asked(body: Mapping[str, Any]) -> str | None:
    """Name the model, or None for the default purpose."""
    return body.get("model") or None


def purpose_asked(body: Mapping[str, Any], header: bytes) -> str | None:
    """Read the purpose from `X-Kloros-Purpose`, else from `metadata.purpose`."""
    if header:
        return header.decode("latin-1")
    metadata = body.get("metadata")
    purpose = metadata.get("purpose") if metadata else None
    return purpose if isinstance(purpose, str) and purpose else None


def error_body(status: int, problems: Problems) -> bytes:
    """Write `error: {message, type, code}`, with the first problem's code and all their texts."""
    kind = _ERROR_TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    first = problems[0]
    error = {"message": message(problems), "type": kind, "param": first.address or None, "code": first.code}
    return dump({"error": error})


def message(problems: Problems) -> str:
    """Put problems into words for a program's user."""
    details = " ".join(problem.detail for problem in problems)
    return f"{details} {problems[0].hint}".strip()


def error_message(body: Mapping[str, Any]) -> str:
    """Find the words in an error of llama-server, however it is shaped."""
    error = body.get("error")
    if isinstance(error, Mapping):
        error = error.get("message")
    return str(error) if error else "no message"


def error_status(body: Mapping[str, Any], otherwise: int) -> int:
    """Find the status in an error of llama-server: one within a stream comes after a head that said 200."""
    error = body.get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, int) and not isinstance(code, bool) else otherwise


def message_in(said: bytes) -> str:
    """Find the words in an answer that should be an error of llama-server."""
    found = parse_object(said)
    return "no message" if isinstance(found, Diagnostic) else error_message(found)


def model_names(model: RoutedModel) -> tuple[str, ...]:
    """Give every spelling under which a model answers, the one for people first."""
    return tuple(dict.fromkeys((model.name, model.id, *model.aliases)))


def persona_names(persona: RoutedPersona) -> tuple[str, ...]:
    """Give every spelling under which a persona answers."""
    return tuple(dict.fromkeys((persona.id, *persona.aliases)))


def models_in_order(table: RoutingTable) -> tuple[RoutedModel, ...]:
    """Order models as a client should offer them: the default purpose's candidates first."""
    by_id = {model.id: model for model in table.models}
    first = next((purpose.candidates for purpose in table.purposes if purpose.is_default), ())
    return tuple({id: by_id[id] for id in (*first, *by_id) if id in by_id}.values())


def has_images(body: Mapping[str, Any]) -> bool:
    """Say whether a checked chat carries pictures, which only some models can see."""
    for turn in body.get("messages", ()):
        content = turn.get("content")
        if isinstance(content, list) and any(part["type"] == "image_url" for part in content):
            return True
    return False


def models_body(table: RoutingTable, profile: str) -> dict[str, Any]:
    """List models, aliases and personas for `GET /v1/models`, with what they are under a profile."""
    return {"object": "list", "data": list(_entries(table, profile))}


def model_entry(table: RoutingTable, profile: str, name: str) -> dict[str, Any] | None:
    """Find one entry for `GET /v1/models/{id}`."""
    return next((entry for entry in _entries(table, profile) if is_same_name(name, entry["id"])), None)


def _entries(table: RoutingTable, profile: str) -> Iterable[dict[str, Any]]:
    for model in models_in_order(table):
        facts = {"kind": model.kind.value, "context_tokens": model.context_under(profile)}
        for name in model_names(model):
            yield _entry(name, model.id, facts)
    for persona in table.personas:
        about = {"kind": ModelKind.CHAT.value, "persona": True, "display_name": persona.display_name}
        for name in persona_names(persona):
            yield _entry(name, persona.model_id, about)


def _entry(name: str, model_id: str, facts: dict[str, Any]) -> dict[str, Any]:
    # `created` is required by OpenAI's clients; the table has no such time.
    return {"id": name, "object": "model", "created": 0, "owned_by": "kloros-infra", "root": model_id, **facts}
