"""What an import takes over from another program, before it is fitted into a models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.catalog import ArgumentValue, CostTier, KvType, ModelKind, PlacementMode

SamplingValue = float | int


@dataclass(frozen=True, slots=True)
class TakenWeights:
    """Where weights lie, as models.yaml writes it; `size_bytes` is None where nobody looked."""

    sources: tuple[str, ...]
    sha256: str | None = None
    projector: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TakenDraft:
    """A model, by its id, that proposes tokens; None leaves a figure to what is standard."""

    model_id: str
    max_tokens: int | None = None
    min_tokens: int | None = None
    min_probability: float | None = None


@dataclass(frozen=True, slots=True)
class TakenModel:
    """A model in our words; None and empty values are left out of models.yaml.

    `tensor_split` has a share for each card of the machine it comes from. A model that does not run is there for others
    to use.
    """

    id: str
    display_name: str
    weights: TakenWeights
    context_tokens: int
    purpose_tags: tuple[str, ...]
    cost_tier: CostTier
    kind: ModelKind = ModelKind.CHAT
    aliases: tuple[str, ...] = ()
    chat_template: str | None = None
    parallel: int | None = None
    cache_type_k: KvType | None = None
    cache_type_v: KvType | None = None
    placement: PlacementMode | None = None
    arguments: Mapping[str, ArgumentValue] = field(default_factory=dict)
    preload: bool | None = None
    pin: bool | None = None
    idle_timeout_s: int | None = None
    drain_s: int | None = None
    group: str | None = None
    draft: TakenDraft | None = None
    tensor_split: tuple[float, ...] = ()
    notes: str = ""
    runs: bool = True


@dataclass(frozen=True, slots=True)
class TakenPersona:
    """A system prompt and sampling over a model, by its id."""

    id: str
    model_id: str
    aliases: tuple[str, ...] = ()
    system_prompt: str = ""
    sampling: Mapping[str, SamplingValue] = field(default_factory=dict)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report: a name over there, what it became here, and what was lost on the way.

    Nothing it became means that it was not taken over; then the notes say why.
    """

    name: str
    became: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TakenOver:
    """All of an import."""

    models: tuple[TakenModel, ...] = ()
    personas: tuple[TakenPersona, ...] = ()
    rows: tuple[Row, ...] = ()
    problems: Problems = ()
