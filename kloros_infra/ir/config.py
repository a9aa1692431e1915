"""models.yaml exactly as the operator wrote it: frozen, closed, constraints on the types.

One declaration per setting. Defaults that depend on another part of the file are None here and are
applied once, in `compiler.resolve`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt

from kloros_infra.ir.catalog import CostTier, ModelKind, PlacementMode
from kloros_infra.ir.names import NAME_PATTERN, PROFILE_PATTERN

BYTE_UNITS = {
    "B": 1,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(value: Any) -> int:
    """Read `12GiB`; raise ValueError with the accepted units."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", value) if isinstance(value, str) else None
    if not found or found[2] not in BYTE_UNITS:
        raise ValueError(f"expected an amount of memory such as 12GiB or 600MiB (units: {', '.join(BYTE_UNITS)})")
    return int(float(found[1]) * BYTE_UNITS[found[2]])


def parse_bandwidth(value: Any) -> int:
    """Read `960GB/s` as bytes per second; raise ValueError with an example."""
    if not isinstance(value, str) or not value.endswith("/s"):
        raise ValueError("expected a bandwidth such as 960GB/s")
    return parse_bytes(value.removesuffix("/s"))


def parse_duration(value: Any) -> float:
    """Read `5m` as seconds; raise ValueError with the accepted units."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", value) if isinstance(value, str) else None
    if not found or found[2] not in DURATION_UNITS:
        raise ValueError(f"expected a duration such as 30s or 5m (units: {', '.join(DURATION_UNITS)})")
    return float(found[1]) * DURATION_UNITS[found[2]]


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ProfileName = Annotated[str, Field(pattern=PROFILE_PATTERN)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Bandwidth = Annotated[int, BeforeValidator(parse_bandwidth)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
Port = Annotated[int, Field(ge=1, le=65535)]
# Text that ends up on one line of a unit or env file: no control characters.
Line = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f\x85\u2028\u2029]*$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00-\x1f\x7f\\\"'$%\s]*$")]
PackageFile = Annotated[str, Field(pattern=r"^package://[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z0-9._/-]+$")]
WeightsSource = Annotated[
    str,
    Field(pattern=r"^(hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/[A-Za-z0-9._/-]+|package://[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z0-9._/-]+|file:///[^\x00-\x1f\x7f]+)$"),
]


class Spec(BaseModel):
    """A part of models.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HostSpec(Spec):
    """A machine: the one this file is applied on, or a remote one that may serve requests."""

    role: Literal["local", "remote"] = "local"
    llama_server: AbsolutePath | PackageFile | None = None
    address: Line | None = None


class GpuSpec(Spec):
    """A card; identity is a UUID or a PCI address, never an index."""

    host: Name
    uuid: Annotated[str, Field(pattern=r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")] | None = None
    pci: Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")] | None = None
    vram: Bytes
    bandwidth: Bandwidth
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")]
    reserve: Bytes | None = None


class ProfileSpec(Spec):
    """A set of cards, best card first."""

    gpus: tuple[Name, ...]


class DefaultsSpec(Spec):
    """Values for every model that does not say otherwise."""

    parallel: PositiveInt = 1
    preload: bool = True
    placement: PlacementMode = PlacementMode.AUTO
    reserve: Bytes = 512 * 2**20


class VersionSpec(Spec):
    """One version of a model's weights; a list of parts is joined in order."""

    version_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    gguf_url: WeightsSource | Annotated[tuple[WeightsSource, ...], Field(min_length=1)]
    architecture: Name | None = None
    quantization: Annotated[str, Field(pattern=r"^[A-Z0-9_]+$")] | None = None
    notes: Line = ""


class InstanceSpec(Spec):
    """A model under one profile."""

    port: Port
    gpu_percentages: tuple[Annotated[float, Field(ge=0, le=100)], ...] | None = None


class ModelSpec(Spec):
    """A model, in the design document's field names."""

    id: Name
    name: Name | None = None
    display_name: Line
    kind: ModelKind = ModelKind.CHAT
    aliases: tuple[Line, ...] = ()
    purpose_tags: Annotated[tuple[Name, ...], Field(min_length=1)]
    languages: tuple[Line, ...] = ()
    context_tokens: Annotated[int, Field(ge=256, le=10_485_760)]
    cost_tier: CostTier
    current_version: str
    versions: Annotated[tuple[VersionSpec, ...], Field(min_length=1)]
    profiles: dict[ProfileName, InstanceSpec | None]
    parallel: PositiveInt | None = None
    preload: bool | None = None
    placement: PlacementMode | None = None


class SamplingSpec(Spec):
    """Sampling values, by llama-server's names."""

    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: NonNegativeInt | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0, le=5)] | None = None
    max_tokens: PositiveInt | None = None
    seed: NonNegativeInt | None = None


class PersonaSpec(Spec):
    """A system prompt and sampling over a base model."""

    id: Name
    base_model: Name
    system_prompt: str
    sampling: SamplingSpec = SamplingSpec()
    stop: tuple[str, ...] = ()


class PurposeSpec(Spec):
    """Candidates in order, and where to go when none can serve."""

    candidates: Annotated[tuple[Name, ...], Field(min_length=1)]
    otherwise: Name | None = None
    default: bool = False


class BusSpec(Spec):
    """Where ChemBus is; `managed: false` if KLoROS's own proxy unit runs it."""

    xsub: Annotated[str, Field(pattern=r"^tcp://127\.0\.0\.1:\d{1,5}$")] = "tcp://127.0.0.1:5556"
    xpub: Annotated[str, Field(pattern=r"^tcp://127\.0\.0\.1:\d{1,5}$")] = "tcp://127.0.0.1:5557"
    managed: bool = True


class BridgeSpec(Spec):
    """Where the HTTP bridge listens; Ollama's own port by default."""

    host: Literal["127.0.0.1", "::1"] = "127.0.0.1"
    ports: Annotated[tuple[Port, ...], Field(min_length=1)] = (11434,)


class Config(Spec):
    """The whole of models.yaml."""

    version: Literal[1]
    hosts: Annotated[dict[Name, HostSpec], Field(min_length=1)]
    gpus: dict[Name, GpuSpec] = {}
    profiles: Annotated[dict[ProfileName, ProfileSpec], Field(min_length=1)]
    defaults: DefaultsSpec = DefaultsSpec()
    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1)]
    personas: tuple[PersonaSpec, ...] = ()
    purposes: dict[Name, PurposeSpec] = {}
    bus: BusSpec = BusSpec()
    bridge: BridgeSpec = BridgeSpec()
