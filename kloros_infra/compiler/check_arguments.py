"""Checks of extra llama-server options that need no llama-server (KI255 to KI257)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.compiler.owned_arguments import owner_of
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.written_arguments import WrittenArguments, written_arguments
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import ArgumentValue
from kloros_infra.ir.config import Config

# llama.cpp b10068, `llama-server --help`: short names of options that a key of models.yaml sets.
SHORT_NAMES: Mapping[str, str] = {
    "a": "alias", "c": "ctx-size", "ctk": "cache-type-k", "ctkd": "cache-type-k-draft", "ctv": "cache-type-v",
    "ctvd": "cache-type-v-draft", "cmoe": "cpu-moe", "cram": "cache-ram", "dev": "device", "devd": "device-draft",
    "dr": "docker-repo", "fa": "flash-attn", "hf": "hf-repo", "hfd": "hf-repo-draft", "hff": "hf-file",
    "hfr": "hf-repo", "hft": "hf-token", "kvo": "kv-offload", "kvu": "kv-unified", "m": "model", "md": "model-draft",
    "mg": "main-gpu", "mm": "mmproj", "mmu": "mmproj-url", "mu": "model-url", "ncmoe": "n-cpu-moe",
    "ngl": "n-gpu-layers", "ngld": "n-gpu-layers-draft", "np": "parallel", "ot": "override-tensor",
    "otd": "override-tensor-draft", "sm": "split-mode", "ts": "tensor-split", "ub": "ubatch-size",
}  # fmt: skip

SPECULATION = "spec-type"
_DRAFTING = "draft-"

# Names that begin with `no-` without being the twin of another option.
_NO_TWINS = frozenset({"no-host"})
_DOWNLOADS = "weights are fetched by apply alone, and checked"
_WRITES = "it would make llama-server write files beside those that apply knows"
_REFUSED: Mapping[str, str] = {
    "control-vector-layer-range": "it takes two values, which cannot be written here",
    "hf-file-v": _DOWNLOADS,
    "hf-repo-v": _DOWNLOADS,
    "log-disable": "the unit's log says why a llama-server ended",
    "log-file": "the unit's log is where `status` and `apply` look for what went wrong",
    "log-prompts-dir": _WRITES,
    "lookup-cache-dynamic": _WRITES,
    "media-path": "it would let requests read files of this machine",
    "slot-save-path": _WRITES,
}
# Families of options that grow from build to build.
_REFUSED_FAMILIES: Mapping[str, str] = {
    "api-key": "only the router talks to llama-server, over plain HTTP on loopback, without a key",
    "hf-": _DOWNLOADS,
    "mcp-": "it would let llama-server run programs or open connections",
    "models-": "one unit serves one model",
    "ssl-": "only the router talks to llama-server, over plain HTTP on loopback, without a key",
    "tools-": "it would let requests change the server, or run programs on this machine",
}


def check_arguments(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find options that have a key of their own, that are refused, or that are switched both ways."""
    for place in written_arguments(parsed.config):
        for name in place.own:
            if problem := refusal(name) or _both_ways(name, place) or _proposes(name, place, parsed.config):
                yield parsed.locate(problem, (*place.address, name), at_key=True)


def refusal(name: str) -> Diagnostic | None:
    """Say why an option cannot stand in `arguments`, whatever its value; None where it can."""
    return _owned(name) or _refused(name)


def _owned(name: str) -> Diagnostic | None:
    owner = None if name in _NO_TWINS else owner_of(SHORT_NAMES.get(name, name))
    if owner is None:
        return None
    if owner.key is None:
        return _not_allowed(name, owner.reason)
    return Diagnostic(
        code="KI255",
        summary="Option that has its own key",
        detail=f"What `{name}` would say is said by the key `{owner.key}` of a model.",
        hint=f"Take `{name}` out of `arguments` and use the key `{owner.key}`.",
    )


def _refused(name: str) -> Diagnostic | None:
    twin = name.removeprefix("no-")
    families = (reason for start, reason in _REFUSED_FAMILIES.items() if twin.startswith(start))
    reason = _REFUSED.get(twin) or next(families, None)
    return _not_allowed(name, reason) if reason else None


def _both_ways(name: str, place: WrittenArguments) -> Diagnostic | None:
    if not name.startswith("no-") or name in _NO_TWINS:
        return None
    twin = name.removeprefix("no-")
    if place.own[name] is False:
        return _switched(f"`{name}: false` switches off that something is switched off.", f"Write `{twin}: true`.")
    if twin in place.own or twin in place.inherited:
        detail = f"`{name}` and `{twin}` are one option, and both are written for the same model."
        return _switched(detail, f"Write `{twin}: true` or `{twin}: false`; the nearest place then counts.")
    return None


def _proposes(name: str, place: WrittenArguments, config: Config) -> Diagnostic | None:
    """Find what would choose how tokens are proposed where `draft` does, or a way that needs a `draft`."""
    if name != SPECULATION:
        return None
    kinds = {kind for value in _values(place.own[name]) for kind in str(value).split(",")}
    needing = sorted(kind for kind in kinds if kind.startswith(_DRAFTING))
    if needing:
        hint = f"Write `draft:` with the model that proposes; `{name}` is for what needs none, such as ngram-simple."
        return _by_draft(f"What `{name}: {needing[0]}` would say is said by the key `draft` of a model.", hint)
    drafted = _drafted(place.address, config)
    if drafted:
        detail = f"`{name}` would take the place of the `draft` that {drafted[0]} has."
        return _by_draft(detail, f"Take `{name}` or that `draft` out.")
    return None


def _values(value: ArgumentValue) -> tuple[ArgumentValue, ...]:
    return value if isinstance(value, tuple) else (value,)


def _drafted(address: Address, config: Config) -> list[str]:
    """Name the models with a draft that options at a place reach: one, or all of them."""
    reached = [config.models[address[1]]] if isinstance(address[1], int) else config.models
    return [model.id for model in reached if model.draft is not None]


def _by_draft(detail: str, hint: str) -> Diagnostic:
    return Diagnostic("KI255", "Option that has its own key", detail, hint)


def _switched(detail: str, hint: str) -> Diagnostic:
    return Diagnostic("KI257", "Option switched both ways", detail, hint)


def _not_allowed(name: str, reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI256",
        summary="Option not allowed",
        detail=f"`{name}` cannot be set: {reason}.",
        hint=f"Take `{name}` out.",
    )
