"""Sections of models.yaml about requests: personas, purposes and policies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from kloros_infra.ir.catalog import CostTier, ModelKind, ResponseType
from kloros_infra.ir.config_models import ChatTemplate
from kloros_infra.ir.requests import ClientAccess, Priority
from kloros_infra.ir.setting import Spec, about
from kloros_infra.ir.written import (
    TEXT_PATTERN,
    TOOL_PATTERN,
    Alias,
    Count,
    Line,
    Name,
    PositiveCount,
    PositiveDuration,
    Probability,
    Seed,
    Text,
)

JsonObject = dict[str, Any]


class SamplingSpec(Spec):
    """Sampling values, by the names of llama-server's API."""

    temperature: Annotated[
        Annotated[float, Field(ge=0, le=5)] | None, about("Randomness; 0 takes the likeliest.", 0.2)
    ] = None
    top_p: Annotated[Probability | None, about("Share of probability that is sampled from.", 0.9)] = None
    top_k: Annotated[Count | None, about("Number of tokens that are sampled from; 0 for all.", 40)] = None
    min_p: Annotated[Probability | None, about("Least probability, relative to the likeliest token.", 0.05)] = None
    typical_p: Annotated[Probability | None, about("Locally typical sampling; 1 switches it off.", 1.0)] = None
    repeat_penalty: Annotated[
        Annotated[float, Field(ge=0, le=5)] | None, about("Penalty for repetition; 1 for none.", 1.1)
    ] = None
    repeat_last_n: Annotated[
        Annotated[int, Field(ge=-1, le=10_485_760)] | None, about("Tokens that are looked at for repetition.", 64)
    ] = None
    presence_penalty: Annotated[
        Annotated[float, Field(ge=-2, le=2)] | None, about("Penalty for tokens that occurred.", 0.0)
    ] = None
    frequency_penalty: Annotated[
        Annotated[float, Field(ge=-2, le=2)] | None, about("Penalty that grows with each occurrence.", 0.0)
    ] = None
    mirostat: Annotated[Annotated[int, Field(ge=0, le=2)] | None, about("Mirostat: 0 off, 1, or 2.", 0)] = None
    mirostat_tau: Annotated[Annotated[float, Field(ge=0, le=20)] | None, about("Mirostat's target entropy.", 5.0)] = (
        None
    )
    mirostat_eta: Annotated[Probability | None, about("Mirostat's learning rate.", 0.1)] = None
    max_tokens: Annotated[PositiveCount | None, about("Length of an answer at most, in tokens.", 300)] = None
    seed: Annotated[Seed | None, about("Seed that makes answers repeatable.", 1)] = None


class ResponseFormatSpec(Spec):
    """The form of a persona's answers."""

    type: Annotated[ResponseType, about("Free text, any JSON, or JSON that a schema describes.", "json_object")]
    json_schema: Annotated[JsonObject | None, about("The schema for `type: json_schema`.", {"type": "object"})] = None


class ToolSpec(Spec):
    """A function that a persona's model may ask to be called."""

    name: Annotated[str, Field(pattern=TOOL_PATTERN), about("The function's name.", "read_file")]
    description: Annotated[Text, about("What it does, for the model.", "Read a file of the repository.")] = ""
    parameters: Annotated[JsonObject, about("JSON Schema of its arguments.", {"type": "object"})] = {}


class PersonaSpec(Spec):
    """A system prompt, sampling and form of answer over a base model (replaces Ollama's Modelfile)."""

    id: Annotated[Name, about("Its name; requests name it as their model.", "kairos-code-doctor")]
    base_model: Annotated[Name, about("The id of the model that answers.", "qwen2.5-coder-7b-q4_0")]
    aliases: Annotated[tuple[Alias, ...], about("Other names that requests may use.", ["code-doctor:latest"])] = ()
    display_name: Annotated[Line | None, about("What people see.", "Code doctor", standard="the id")] = None
    system_prompt: Annotated[Text, about("What the model is told first.", "You are a code analysis expert.")] = ""
    chat_template: Annotated[
        ChatTemplate | None, about("The chat template that it is written for; the model's must be the same.", "chatml")
    ] = None
    sampling: Annotated[SamplingSpec, about("Values for requests that give none.", {"temperature": 0.2})] = (
        SamplingSpec()
    )
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=500, pattern=TEXT_PATTERN)], ...],
        about("Texts that end an answer.", ["<|im_end|>"]),
    ] = ()
    response_format: Annotated[
        ResponseFormatSpec | None, about("The form of its answers.", {"type": "json_object"}, standard="text")
    ] = None
    tools: Annotated[tuple[ToolSpec, ...], about("Functions that it may call.", [{"name": "read_file"}])] = ()


class WhenSpec(Spec):
    """Marks of a request that states no purpose; all that are given must hold."""

    contains: Annotated[
        tuple[Annotated[Text, Field(min_length=1)], ...],
        about("Texts of which the last message holds one.", ["```", "Traceback"]),
    ] = ()
    model: Annotated[Line | None, about("Pattern of the model asked for, with * and ?.", "*coder*")] = None
    source: Annotated[tuple[Line, ...], about("Services of which one is asking.", ["kloros-voice"])] = ()
    kind: Annotated[ModelKind | None, about("What is asked for.", "embedding")] = None
    has_images: Annotated[bool | None, about("Whether it carries images.", True)] = None
    has_tools: Annotated[bool | None, about("Whether it carries tools.", True)] = None
    min_tokens: Annotated[PositiveCount | None, about("Its length at least, in tokens.", 8000)] = None


class PurposeSpec(Spec):
    """Candidates in order, and where to go when none can serve."""

    candidates: Annotated[
        tuple[Name, ...], Field(min_length=1), about("Ids of models, best first.", ["qwen2.5-coder-7b-q4_0"])
    ]
    otherwise: Annotated[Name | None, about("The purpose to try when no candidate can serve.", "fast")] = None
    default: Annotated[
        bool, about("Whether requests that name neither model nor purpose are served as this.", True)
    ] = False
    when: Annotated[
        tuple[WhenSpec, ...],
        about("Requests without a purpose that are taken for this one.", [{"contains": ["```"]}]),
    ] = ()
    max_latency: Annotated[
        PositiveDuration | None, about("Time to the first token at most.", "2s", standard="none")
    ] = None
    max_cost_tier: Annotated[CostTier | None, about("What a request may cost at most.", "medium")] = None
    priority: Annotated[Priority, about("Whose requests go first.", "voice")] = Priority.INTERACTIVE
    continue_elsewhere: Annotated[
        bool, about("Whether an answer that breaks off is continued by another upstream.", False)
    ] = False


class ClientSpec(Spec):
    """Who asks, and what they may ask for; everything where nothing is said."""

    sources: Annotated[
        tuple[Line, ...], about("Values of metadata.source_service that are this client.", ["kloros-voice"])
    ] = ()
    credential: Annotated[
        Name | None, about("Name of the credential with its HTTP keys, one a line.", "voice-keys")
    ] = None
    models: Annotated[tuple[Name, ...] | None, about("Models it may use.", ["fast"], standard="all")] = None
    purposes: Annotated[tuple[Name, ...] | None, about("Purposes it may use.", ["conversation"], standard="all")] = None
    data_class: Annotated[Name | None, about("How sensitive its data is.", "private")] = None
    priority: Annotated[Priority | None, about("Whose requests go first.", "voice", standard="the purpose's")] = None
    max_queued: Annotated[PositiveCount | None, about("Requests it may have waiting.", 8, standard="no limit")] = None
    requests_per_minute: Annotated[
        PositiveCount | None, about("Requests a minute at most.", 60, standard="no limit")
    ] = None


class PoliciesSpec(Spec):
    """Who may do what, and what happens by itself."""

    on_gpu_change: Annotated[
        Literal["plan", "apply"],
        about("What follows when a card was replaced or has other memory: a plan that waits, or its apply.", "plan"),
    ] = "plan"
    data_classes: Annotated[
        tuple[Name, ...], about("Classes of data, least sensitive first.", ["public", "internal", "private"])
    ] = ()
    clients: Annotated[dict[Name, ClientSpec], about("Clients by name.", {"voice": {"sources": ["kloros-voice"]}})] = {}
    unknown_clients: Annotated[ClientAccess, about("What happens to requests of no client named here.", "refuse")] = (
        ClientAccess.ALLOW
    )
    audit: Annotated[
        Literal["off", "metadata", "full"],
        about("What is recorded of each request: nothing, all but texts, or everything.", "metadata", acted_on=False),
    ] = "off"
