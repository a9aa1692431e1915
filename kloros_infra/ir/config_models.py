"""Sections of models.yaml about models: how they are served, their versions, and defaults for all of them."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from kloros_infra.ir.catalog import ArgumentValue, CostTier, KvType, ModelKind, PlacementMode
from kloros_infra.ir.config_sandbox import RelaxSpec
from kloros_infra.ir.on_change import OnChange
from kloros_infra.ir.setting import Spec, about
from kloros_infra.ir.written import (
    ARGUMENT_PATTERN,
    LINE_PATTERN,
    QUANTIZATION_PATTERN,
    SHA256_PATTERN,
    TIMESTAMP_PATTERN,
    WEIGHTS_FORM,
    Alias,
    Bytes,
    ContextTokens,
    Duration,
    Line,
    Name,
    Port,
    PositiveDuration,
    Probability,
    ProfileName,
    Slots,
    VersionName,
    WeightsSource,
    one_or_several,
)

# llama.cpp b10068, `llama-server --help`, "list of built-in templates".
ChatTemplate = Literal[
    "bailing", "bailing-think", "bailing2", "chatglm3", "chatglm4", "chatml", "command-r", "deepseek", "deepseek-ocr",
    "deepseek2", "deepseek3", "exaone-moe", "exaone3", "exaone4", "falcon3", "gemma", "gigachat", "glmedge", "gpt-oss",
    "granite", "granite-4.0", "granite-4.1", "grok-2", "hunyuan-dense", "hunyuan-moe", "hunyuan-vl", "kimi-k2",
    "llama2", "llama2-sys", "llama2-sys-bos", "llama2-sys-strip", "llama3", "llama4", "megrez", "minicpm", "mistral-v1",
    "mistral-v3", "mistral-v3-tekken", "mistral-v7", "mistral-v7-tekken", "monarch", "openchat", "orion",
    "pangu-embedded", "phi3", "phi4", "rwkv-world", "seed_oss", "smolvlm", "solar-open", "vicuna", "vicuna-orca",
    "yandex", "zephyr",
]  # fmt: skip


def parse_argument(value: Any) -> ArgumentValue:
    """Read an argument's value: true or false, a number, one line of text, or a list of those; raise ValueError."""
    match value:
        case bool():
            return value
        case int() | float() | str() if _is_number(value) or _is_line(value):
            return value
        case list() if value and all(_is_number(item) or _is_line(item) for item in value):
            return tuple(value)
        case _:
            raise ValueError("expected true, false, a number, text on one line, or a list of numbers and texts")


def _is_number(value: Any) -> bool:
    match value:
        case bool():
            return False
        case float():
            return math.isfinite(value)
        case _:
            return isinstance(value, int)


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 4096 and re.fullmatch(LINE_PATTERN, value) is not None


_LINE_SCHEMA = {"type": "string", "maxLength": 4096, "pattern": LINE_PATTERN}
_ARGUMENT_SCHEMA = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "number"},
        _LINE_SCHEMA,
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "number"}, _LINE_SCHEMA]}},
    ]
}
Arguments = dict[
    Annotated[str, Field(max_length=64, pattern=ARGUMENT_PATTERN)],
    Annotated[Any, BeforeValidator(parse_argument), WithJsonSchema(_ARGUMENT_SCHEMA)],
]


class ServingSpec(Spec):
    """How a model is served; the nearest counts: the model under a profile, the model, `defaults`, what is standard."""

    parallel: Annotated[
        Slots | None,
        about("How many requests at a time; memory for context grows with it.", 2, standard="1", inherited=True),
    ] = None
    cache_type_k: Annotated[
        KvType | None,
        about("Type in which keys are kept: less memory for some quality.", "q8_0", standard="f16", inherited=True),
    ] = None
    cache_type_v: Annotated[
        KvType | None,
        about("Type in which values are kept: less memory for some quality.", "q8_0", standard="f16", inherited=True),
    ] = None
    placement: Annotated[
        PlacementMode | None,
        about(
            "Who gives tensors to devices. `auto`, `solver`: our own placing. `manual`: `layers` or `gpu_percentages`."
            " `fit`: llama-server itself when it starts. `overrider`: the external gguf-tensor-overrider.",
            "auto",
            standard="auto",
            inherited=True,
        ),
    ] = None
    prompt_ratio: Annotated[
        Annotated[float, Field(ge=0.01, le=1000)] | None,
        about(
            "What placement makes fast: how many tokens of prompt are read for each one that is generated.",
            16,
            standard="4",
            inherited=True,
        ),
    ] = None
    cache_types: Annotated[
        tuple[KvType, ...] | None,
        about(
            "Types that keys and values may be kept in instead, where that makes a placement faster; most wanted"
            " first.",
            ["q8_0"],
            inherited=True,
        ),
    ] = None
    min_context_tokens: Annotated[
        ContextTokens | None,
        about(
            "What the context may be lowered to where the model would else not go wholly on its cards.",
            8192,
            inherited=True,
        ),
    ] = None
    arguments: Annotated[
        Arguments,
        about(
            "Further options of llama-server, by their long names without dashes; `true` for one that takes no value."
            " Mappings are joined key by key.",
            {"threads": 8, "no-mmap": True},
            inherited=True,
        ),
    ] = {}
    preload: Annotated[
        bool | None,
        about(
            "Whether it is started with its profile; if not, the first request for it starts it.",
            False,
            standard="true",
            inherited=True,
        ),
    ] = None
    on_change: Annotated[
        OnChange | None,
        about(
            "What happens to an instance that runs while its settings change. `restart`: it restarts. `reload`: only"
            " for another model, variable, option or program; limits and sandbox wait until it next starts. `defer`:"
            " all of it waits, and `plan` counts it. `never`: it waits, and nobody is reminded.",
            "defer",
            standard="restart",
            inherited=True,
        ),
    ] = None
    pin: Annotated[
        bool | None,
        about(
            "Whether it is never stopped, neither when idle nor to make room.",
            True,
            standard="false",
            inherited=True,
        ),
    ] = None
    idle_timeout: Annotated[
        Duration | None,
        about(
            "How long it may be idle before it is stopped; `0s` is at once, and `pin: true` is never.",
            "5m",
            standard="5m where it is not preloaded, and never where it is",
            inherited=True,
        ),
    ] = None
    drain: Annotated[
        Duration | None,
        about(
            "How long running requests may go on when it is stopped.",
            "30s",
            standard="30s",
            inherited=True,
        ),
    ] = None
    lease: Annotated[
        PositiveDuration | None,
        about("How long an allocation lasts without activity.", "10m", standard="10m", inherited=True),
    ] = None


class DefaultsSpec(ServingSpec):
    """Values for every model or GPU that does not say otherwise."""

    reserve: Annotated[
        Bytes, about("Memory of each card left to the desktop and the CUDA context.", "512MiB", standard="512MiB")
    ] = 512 * 2**20


class VersionSpec(Spec):
    """One version of a model's weights.

    Several sources are parts, joined in order. `architecture` and `quantization` name the published
    model whose header can be derived where the file itself cannot be reached.
    """

    version_id: Annotated[VersionName, about("Its name; a date and a counter sort well.", "2025-11-17-01")]
    gguf_url: Annotated[
        tuple[WeightsSource, ...],
        BeforeValidator(one_or_several),
        Field(min_length=1),
        WithJsonSchema(
            {
                "anyOf": [
                    WEIGHTS_FORM,
                    {"type": "array", "minItems": 1, "items": WEIGHTS_FORM},
                ]
            }
        ),
        about(
            "Where the weights come from: one source, or several parts that are joined in order. The first part of a"
            " split GGUF stands for all of them.",
            "hf://Qwen/Qwen2.5-Coder-7B-Instruct-GGUF/qwen2.5-coder-7b-instruct-q4_0.gguf",
        ),
    ]
    mmproj_url: Annotated[
        WeightsSource | None,
        about("Where a vision model's projector comes from.", "hf://ggml-org/gemma-3-4b-it-GGUF/mmproj-model-f16.gguf"),
    ] = None
    sha256: Annotated[
        Annotated[str, Field(pattern=SHA256_PATTERN)] | None,
        about("What the weights must hash to; the lock must agree.", "0123456789abcdef" * 4),
    ] = None
    architecture: Annotated[
        Name | None,
        about("Published model whose header can be derived where the file cannot be reached.", "qwen2.5-7b"),
    ] = None
    quantization: Annotated[
        Annotated[str, Field(pattern=QUANTIZATION_PATTERN)] | None,
        about("Quantization for the derived header.", "Q4_0"),
    ] = None
    created_at: Annotated[
        Annotated[str, Field(pattern=TIMESTAMP_PATTERN)] | None, about("When it was added; for people.", "2025-11-17")
    ] = None
    notes: Annotated[Line, about("Why it is there; for people.", "Q6_K for better quality")] = ""


class InstanceSpec(ServingSpec):
    """A model under one profile."""

    port: Annotated[
        Port | None,
        about(
            "Loopback port of its llama-server. Left out, the model may share its instance under an earlier profile,"
            " where both would be started alike; one profile of each model has a port.",
            8601,
            standard="the next free one after the model's first",
        ),
    ] = None
    context_tokens: Annotated[
        ContextTokens | None, about("Context of each request under this profile.", 16384, standard="the model's")
    ] = None
    gpu_percentages: Annotated[
        tuple[Annotated[float, Field(ge=0, le=100)], ...] | None,
        about("Share of the model for each card of the profile, 100 in all; read by `placement: manual`.", [80, 15, 5]),
    ] = None
    layers: Annotated[
        dict[Name, Annotated[int, Field(ge=0, le=10_000)]] | None,
        about(
            "Layers for each card, the output head counting as one; what is left stays with the CPU; read by"
            " `placement: manual`.",
            {"rtx3060": 20, "gtx1080ti": 9},
        ),
    ] = None


class DraftSpec(Spec):
    """A small model that proposes tokens for a large one to check (speculative decoding)."""

    model: Annotated[
        Name, about("The model whose weights propose; it needs the same vocabulary.", "qwen2.5-coder-0.5b-q8_0")
    ]
    max_tokens: Annotated[int, Field(ge=1, le=64), about("Tokens proposed at most.", 8)] = 3
    min_tokens: Annotated[int, Field(ge=0, le=64), about("Tokens proposed at least.", 0)] = 0
    min_probability: Annotated[Probability, about("Probability below which no more are proposed.", 0.75)] = 0.0


class ModelSpec(ServingSpec):
    """A model, in the design document's field names."""

    id: Annotated[Name, about("Its one true name.", "qwen2.5-coder-7b-q4_0")]
    name: Annotated[
        Name | None, about("What its units are called: llama@<name>-<profile>.service.", "code", standard="the id")
    ] = None
    display_name: Annotated[Line | None, about("What people see.", "Qwen 2.5 Coder 7B Q4_0", standard="the id")] = None
    kind: Annotated[
        ModelKind, about("What it is asked for: chat, chat with images (vision), embeddings, or reranking.", "chat")
    ] = ModelKind.CHAT
    aliases: Annotated[tuple[Alias, ...], about("Other names that requests may use.", ["qwen2.5-coder:7b"])] = ()
    purpose_tags: Annotated[
        tuple[Name, ...], about("What it is good for, its speciality first.", ["code_understanding"])
    ] = ()
    languages: Annotated[
        tuple[Line, ...],
        about("Languages it is good at: a request that names one prefers it among equals.", ["python", "rust"]),
    ] = ()
    context_tokens: Annotated[ContextTokens, about("Context that each request gets.", 32000)]
    cost_tier: Annotated[
        CostTier | None,
        about(
            "What a request costs in compute; a request may set a limit.",
            "medium",
            standard="by its weights: low below 3 GiB, medium below 12 GiB, else high; without weights here, medium",
        ),
    ] = None
    group: Annotated[
        Name | None,
        about("Models of one group take turns: one of them is loaded at a time.", "large"),
    ] = None
    data_class: Annotated[
        Name | None,
        about("The most sensitive data that it may see, of policies.data_classes.", "private"),
    ] = None
    chat_template: Annotated[
        ChatTemplate | None,
        about("One of llama.cpp's chat templates in place of the file's own.", "chatml", standard="the file's own"),
    ] = None
    draft: Annotated[
        DraftSpec | None, about("A small model that proposes tokens.", {"model": "qwen2.5-coder-0.5b-q8_0"})
    ] = None
    relax: Annotated[
        tuple[RelaxSpec, ...],
        about(
            "Lines of the sandbox that its units go without, beside those of `sandbox.relax`, each with its reason.",
            [{"directives": ["PrivateIPC"], "because": "it shares memory with the camera service"}],
        ),
    ] = ()
    current_version: Annotated[
        VersionName | None, about("The version that is installed.", "2025-11-17-01", standard="the only one")
    ] = None
    versions: Annotated[
        tuple[VersionSpec, ...],
        about("Versions of its weights; none for a model that only remote hosts serve.", [{"version_id": "1"}]),
    ] = ()
    profiles: Annotated[
        dict[ProfileName, InstanceSpec | None],
        about(
            "Where it runs: settings for each profile, null where it shall not run.",
            {"max": {"port": 8601}, "mid": None},
        ),
    ] = {}

    @property
    def unit_name(self) -> str:
        """Give the name that its units carry: `name`, or the id where none is given."""
        return self.name or self.id

    @property
    def version_in_use(self) -> str | None:
        """Give the version that is installed: the current one, or the only one."""
        only = self.versions[0].version_id if len(self.versions) == 1 else None
        return self.current_version or only
