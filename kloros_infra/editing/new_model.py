"""Weights on the hub → the entry of a model in models.yaml."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from kloros_infra.compiler.instance_ports import FIRST_PORT, instance_ports
from kloros_infra.editing.edits import Value
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.config import Config
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.names import as_name, unused
from kloros_infra.ir.split_gguf import split_name

MAX_CONTEXT_TOKENS = 32_768
"""More is rarely asked for, and memory for it is taken from the first request on."""
MIN_CONTEXT_TOKENS = 256

_PURPOSES = (
    (re.compile(r"code|coding", re.IGNORECASE), "code_generation"),
    (re.compile(r"\b(r1|qwq|think|thinking|reason|reasoning)\b", re.IGNORECASE), "reasoning"),
)


@dataclass(frozen=True, slots=True)
class Pulled:
    """Weights that were chosen on the hub, and what is pinned of them and of their projector, if they have one."""

    repository: str
    weights: LockedWeights
    projector: LockedWeights | None = None

    @property
    def source(self) -> str:
        return self.weights.source[0]


def stem_of(source: str) -> str:
    """Give the name of a weights file without ending and number of the part."""
    name = source.rpartition("/")[2]
    split = split_name(name)
    return split.prefix if split else name.removesuffix(".gguf")


def model_id_for(source: str, taken: Collection[str]) -> str:
    """Make an id of a file's name that no model has yet."""
    return unused(as_name(stem_of(source)) or "model", taken)


def display_name_for(source: str) -> str:
    """Write a file's name as a title."""
    words = stem_of(source).replace("-", " ").split()
    return " ".join(word if word != word.lower() else word[:1].upper() + word[1:] for word in words)[:200]


def kind_of(header: GgufHeader, *, has_projector: bool) -> ModelKind:
    """Say what a model is asked for: a header that tells how to pool is not one of a model that chats."""
    if header.pooling_type == "rank":
        return ModelKind.RERANK
    if header.pooling_type not in (None, "none"):
        return ModelKind.EMBEDDING
    return ModelKind.VISION if has_projector else ModelKind.CHAT


def purposes_of(source: str, kind: ModelKind) -> list[str]:
    """Guess what a model is good for by its name."""
    match kind:
        case ModelKind.EMBEDDING:
            return ["rag_embedding"]
        case ModelKind.RERANK:
            return ["reranking"]
        case _:
            words = stem_of(source)
            found = [purpose for pattern, purpose in _PURPOSES if pattern.search(words)]
            return [*found, "vision"] if kind is ModelKind.VISION else found or ["chat"]


def version_entry(version_id: str, pulled: Pulled, *, has_projector: bool) -> dict[str, Value]:
    """Write the entry of a version."""
    entry: dict[str, Value] = {"version_id": version_id, "gguf_url": pulled.source}
    if pulled.projector is not None and has_projector:
        entry["mmproj_url"] = pulled.projector.source[0]
    return entry


def model_entry(
    config: Config, pulled: Pulled, *, version_id: str, name: str | None, profiles: Collection[str]
) -> dict[str, Value]:
    """Write the entry of a new model; it runs under `profiles`, on free ports."""
    header = pulled.weights.header
    kind = kind_of(header, has_projector=pulled.projector is not None)
    ports = free_ports(config)
    return {
        "id": model_id_for(pulled.source, {model.id for model in config.models}),
        **({} if name is None else {"name": name}),
        "display_name": display_name_for(pulled.source),
        **({} if kind is ModelKind.CHAT else {"kind": kind.value}),
        "purpose_tags": purposes_of(pulled.source, kind),
        "context_tokens": max(MIN_CONTEXT_TOKENS, min(header.context_length, MAX_CONTEXT_TOKENS)),
        "cost_tier": CostTier.of_weights(pulled.weights.size_bytes).value,
        "current_version": version_id,
        "versions": [version_entry(version_id, pulled, has_projector=kind is ModelKind.VISION)],
        "profiles": {one: {"port": next(ports)} if one in profiles else None for one in config.profiles},
    }


def free_ports(config: Config) -> Iterator[int]:
    """Count on from the highest port of a model, at the next ten, leaving out every port that the file names."""
    taken = set(_ports(config))
    models = [port for ports in instance_ports(config) for port in ports.values()]
    first = max(models) // 10 * 10 + 11 if models else FIRST_PORT
    return (port for port in _upward_from(first) if port not in taken)


def _upward_from(first: int) -> Iterable[int]:
    """Count up to the last port, then from where users' ports begin."""
    return [*range(first, 65_536), *range(1024, min(first, 65_536))]


def _ports(config: Config) -> Iterator[int]:
    yield from (port for ports in instance_ports(config) for port in ports.values())
    yield from config.bridge.ports
    yield from config.bus.listening.values()
    if config.observability.metrics_port is not None:
        yield config.observability.metrics_port
