"""The resolved models (design document: registry): every default applied, every reference bound."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.names import InstanceId


class ModelKind(StrEnum):
    """What a model is asked for."""

    CHAT = "chat"
    EMBEDDING = "embedding"


class CostTier(StrEnum):
    """Compute cost of a request, the design document's three steps."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        return {"low": 1, "medium": 2, "high": 3}[self.value]


class PlacementMode(StrEnum):
    """How a model's tensors are given to devices."""

    AUTO = "auto"
    SHARE = "share"
    FIT = "fit"


@dataclass(frozen=True, slots=True)
class Card:
    """A declared GPU; `reserve_bytes` is left to the desktop and the CUDA context."""

    name: str
    host: str
    vram_bytes: int
    reserve_bytes: int
    bandwidth_bytes_per_s: int
    compute_capability: tuple[int, int]
    uuid: str | None
    pci: str | None
    cuda_index: int
    """Place among the host's declared cards in PCI order, what CUDA shows under PCI_BUS_ID."""

    @property
    def usable_bytes(self) -> int:
        return max(0, self.vram_bytes - self.reserve_bytes)


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of cards, in the order in which llama.cpp shall see them."""

    name: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its current version bound to the weights that the lock pins."""

    id: str
    name: str
    display_name: str
    kind: ModelKind
    aliases: tuple[str, ...]
    purpose_tags: tuple[str, ...]
    languages: tuple[str, ...]
    context_tokens: int
    cost_tier: CostTier
    version_id: str
    weights: LockedWeights
    parallel: int
    preload: bool
    placement: PlacementMode


@dataclass(frozen=True, slots=True)
class Instance:
    """One model under one profile, with its port."""

    id: InstanceId
    model: Model
    profile: Profile
    port: int
    gpu_percentages: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Persona:
    """A system prompt and sampling values over a base model (replaces Ollama's Modelfile)."""

    id: str
    model_id: str
    system_prompt: str
    sampling: tuple[tuple[str, float | int], ...]
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a request may ask for, and the models that serve it, best first."""

    name: str
    candidates: tuple[str, ...]
    otherwise: str | None
    is_default: bool


@dataclass(frozen=True, slots=True)
class BusAddresses:
    """The two sides of the ChemBus proxy; `is_managed` says whether we run the proxy."""

    xsub: str
    xpub: str
    is_managed: bool


@dataclass(frozen=True, slots=True)
class BridgeAddresses:
    """Where the HTTP bridge listens."""

    host: str
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that compile needs to know, in the order of the file."""

    host: str
    llama_server: str
    profiles: tuple[Profile, ...]
    models: tuple[Model, ...]
    instances: tuple[Instance, ...]
    personas: tuple[Persona, ...]
    purposes: tuple[Purpose, ...]
    bus: BusAddresses
    bridge: BridgeAddresses
