"""Options of llama-server that `arguments` must leave alone, and what to write instead (llama.cpp b10068 and later).

Each is either set from a key of models.yaml, or ours for a reason. All spellings of an option are here, its `no-` twin
is meant with it, and a test holds the table against the installed build.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Owner:
    """Who decides on an option: a key of models.yaml, or, where that is None, we ourselves for a reason."""

    key: str | None
    reason: str


_BY_KEY: Mapping[str, tuple[str, ...]] = {
    "versions": (
        "model", "model-url", "docker-repo", "hf-repo", "hf-file", "embd-gemma-default", "fim-qwen-1.5b-default",
        "fim-qwen-3b-default", "fim-qwen-7b-default", "fim-qwen-7b-spec", "fim-qwen-14b-spec", "fim-qwen-30b-default",
        "gpt-oss-20b-default", "gpt-oss-120b-default", "vision-gemma-4b-default", "vision-gemma-12b-default",
    ),
    "versions.mmproj_url": ("mmproj", "mmproj-url", "mmproj-auto"),
    "name": ("alias",),
    "kind": ("embedding", "embeddings", "rerank", "reranking"),
    "context_tokens": ("ctx-size",),
    "parallel": ("parallel",),
    "cache_type_k": ("cache-type-k",),
    "cache_type_v": ("cache-type-v",),
    # A template of llama.cpp's own works with its old engine alone, so both are set together.
    "chat_template": ("chat-template", "jinja"),
    "placement": (
        "device", "fit", "fit-ctx", "fit-target", "gpu-layers", "n-gpu-layers", "split-mode", "tensor-split",
        "main-gpu", "override-tensor", "cpu-moe", "n-cpu-moe", "kv-offload", "mmproj-offload", "op-offload", "rpc",
    ),
    "draft": (
        "spec-draft-model", "model-draft", "spec-draft-hf", "hf-repo-draft", "spec-draft-device", "device-draft",
        "spec-draft-ngl", "gpu-layers-draft", "n-gpu-layers-draft", "spec-draft-n-max", "spec-draft-n-min",
        "spec-draft-p-min", "draft-p-min", "spec-draft-override-tensor", "override-tensor-draft",
        "spec-draft-cpu-moe", "cpu-moe-draft", "spec-draft-n-cpu-moe", "spec-draft-ncmoe", "n-cpu-moe-draft",
        "spec-draft-type-k", "cache-type-k-draft", "spec-draft-type-v", "cache-type-v-draft",
        "draft", "draft-n", "draft-max", "draft-min", "draft-n-min",
    ),
    "profiles.port": ("port",),
    "idle_timeout": ("sleep-idle-seconds",),
}  # fmt: skip

_BY_US: Mapping[str, tuple[str, ...]] = {
    "only the router talks to llama-server, over plain HTTP on loopback, without a key": (
        "host", "reuse-port", "api-key", "api-key-file", "ssl-key-file", "ssl-cert-file", "api-prefix",
    ),
    "health checks and figures need it as it is": (
        "metrics", "ui", "webui", "path", "ui-config", "webui-config", "ui-config-file", "webui-config-file",
    ),
    "weights are fetched by apply alone, and checked": (
        "offline", "hf-token", "lora", "lora-scaled", "control-vector", "control-vector-scaled", "model-vocoder",
    ),
    "apply reads in its log what it loaded, and where": (
        "verbosity", "log-verbosity", "verbose", "log-verbose", "log-disable", "log-file", "log-prefix",
        "log-timestamps", "log-colors",
    ),
    "the memory that a model takes is reckoned with it": (
        "flash-attn", "kv-unified", "batch-size", "ubatch-size", "swa-full", "cache-ram",
    ),
    "it would let requests change the server, or run programs on this machine": (
        "props", "tools", "tools-runtime", "agent", "mcp-servers-config", "mcp-servers-json", "ui-mcp-proxy",
        "webui-mcp-proxy",
    ),
    "one unit serves one model": ("models-dir", "models-preset", "models-max", "models-autoload"),
    "llama-server would print something and end": (
        "help", "usage", "version", "cache-list", "completion-bash", "list-devices",
    ),
    "it takes two values, which cannot be written here": ("control-vector-layer-range",),
}  # fmt: skip


def _table() -> Iterator[tuple[str, Owner]]:
    for key, names in _BY_KEY.items():
        yield from ((name, Owner(key, f"`{key}` says it")) for name in names)
    for reason, names in _BY_US.items():
        yield from ((name, Owner(None, reason)) for name in names)


OWNED: Mapping[str, Owner] = dict(_table())
"""Options by their long names without dashes."""


def owner_of(argument: str) -> Owner | None:
    """Say who decides on an option, given by its long name or its `no-` twin; None where `arguments` may."""
    return OWNED.get(argument) or OWNED.get(argument.removeprefix("no-"))
