"""models.yaml exactly as the operator wrote it: frozen, closed, constraints on the types.

One declaration per setting. Defaults that depend on another part of the file are None here and are
applied once, in `compiler.resolve`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt

from kloros_infra.ir.catalog import CostTier, ModelKind, PlacementMode
from kloros_infra.ir.names import NAME_PATTERN, PROFILE_PATTERN

DEFAULT_LLAMA_SERVER = "/opt/llama.cpp/llama-server"

BYTE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([A-Za-z]+)"


def parse_bytes(value: Any) -> int:
    """Read `12GiB`; raise ValueError with the accepted units."""
    found = re.fullmatch(_AMOUNT, value) if isinstance(value, str) else None
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
    found = re.fullmatch(_AMOUNT, value) if isinstance(value, str) else None
    if not found or found[2] not in DURATION_UNITS:
        raise ValueError(f"expected a duration such as 30s or 5m (units: {', '.join(DURATION_UNITS)})")
    return float(found[1]) * DURATION_UNITS[found[2]]


def refuse_parent_folders(value: str) -> str:
    """Let a path through that stays below where it starts; raise ValueError for `..`."""
    if ".." in value.split("/"):
        raise ValueError("expected a path without '..'")
    return value


def refuse_unknown_ports(value: str) -> str:
    """Let a bus address through whose port exists; raise ValueError with the range."""
    if not 1 <= port_of(value) <= 65535:
        raise ValueError("expected a port from 1 to 65535 at the end of the address")
    return value


def port_of(address: str) -> int:
    """Read the port of `tcp://127.0.0.1:5556`."""
    return int(address.rpartition(":")[2])


def parts(value: Any) -> Any:
    """Read one source as a list of one."""
    match value:
        case str():
            return (value,)
        case list():
            return tuple(value)
        case _:
            return value


ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"
BUS_PATTERN = r"^tcp://127\.0\.0\.1:[0-9]{1,5}$"
COMPUTE_CAPABILITY_PATTERN = r"^[0-9]{1,2}\.[0-9]$"
# Text that ends up on one line of a unit or env file: no control characters, no line separators.
LINE_PATTERN = r"^[^\x00-\x1f\x7f\x85\u2028\u2029]*$"
PCI_PATTERN = r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$"
PROGRAM_PATTERN = r"^(/[^\x00-\x1f\x7f\x85\u2028\u2029\\\"'$%\s]+|package://[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z0-9._/-]+)$"
QUANTIZATION_PATTERN = r"^[A-Z0-9_]{1,32}$"
TEXT_PATTERN = r"^[^\x00]*$"
UUID_PATTERN = r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
WEIGHTS_PATTERN = (
    r"^(hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/[A-Za-z0-9._/-]+"
    r"|package://[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z0-9._/-]+"
    r"|file:///[^\x00-\x1f\x7f]+)$"
)

MEANINGS: Mapping[str, str] = {
    NAME_PATTERN: "a name: lower-case letters, digits, '.', '_' and '-', 64 at most, beginning with a letter or digit",
    PROFILE_PATTERN: "a profile's name: lower-case letters, digits and '_', 32 at most, no hyphen",
    ALIAS_PATTERN: "a model's name as clients write it, such as qwen2.5-coder:7b",
    BUS_PATTERN: "a loopback address such as tcp://127.0.0.1:5556",
    COMPUTE_CAPABILITY_PATTERN: 'a compute capability such as "8.6"',
    LINE_PATTERN: "text on one line",
    PCI_PATTERN: "a PCI address such as 0000:01:00.0 (`lspci -D` prints it)",
    PROGRAM_PATTERN: "an absolute path without spaces or quotes, or package://module/file",
    QUANTIZATION_PATTERN: "a quantization in capitals, such as Q4_0 or Q5_K_M",
    TEXT_PATTERN: "text without NUL characters",
    UUID_PATTERN: "a GPU's UUID such as GPU-5a2b…, as `nvidia-smi -L` prints it",
    VERSION_PATTERN: "a version: letters, digits, '.', '_' and '-', such as 2025-11-17-01",
    WEIGHTS_PATTERN: "a source of weights: hf://owner/repository/file, package://module/file or file:///path",
}
"""Each pattern in words, for messages."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ProfileName = Annotated[str, Field(pattern=PROFILE_PATTERN)]
VersionName = Annotated[str, Field(pattern=VERSION_PATTERN)]
Alias = Annotated[str, Field(pattern=ALIAS_PATTERN)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Bandwidth = Annotated[int, BeforeValidator(parse_bandwidth)]
Duration = Annotated[float, BeforeValidator(parse_duration)]
Port = Annotated[int, Field(ge=1, le=65535)]
Line = Annotated[str, Field(max_length=500, pattern=LINE_PATTERN)]
Program = Annotated[str, Field(max_length=4096, pattern=PROGRAM_PATTERN), AfterValidator(refuse_parent_folders)]
WeightsSource = Annotated[str, Field(max_length=4096, pattern=WEIGHTS_PATTERN), AfterValidator(refuse_parent_folders)]
BusAddress = Annotated[str, Field(pattern=BUS_PATTERN), AfterValidator(refuse_unknown_ports)]
# llama-server serves at most LLAMA_MAX_SEQ sequences (llama.cpp, src/llama-cparams.h).
Slots = Annotated[int, Field(ge=1, le=256)]


class Spec(BaseModel):
    """A part of models.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class HostSpec(Spec):
    """A machine: the one this file is applied on, or a remote one that may serve requests."""

    role: Literal["local", "remote"] = "local"
    llama_server: Program = DEFAULT_LLAMA_SERVER
    address: Line | None = None


class GpuSpec(Spec):
    """A card; identity is a UUID or a PCI address, never an index."""

    host: Name
    uuid: Annotated[str, Field(pattern=UUID_PATTERN)] | None = None
    pci: Annotated[str, Field(pattern=PCI_PATTERN)] | None = None
    vram: Annotated[Bytes, Field(gt=0)]
    bandwidth: Annotated[Bandwidth, Field(gt=0)]
    compute_capability: Annotated[str, Field(pattern=COMPUTE_CAPABILITY_PATTERN)]
    reserve: Bytes | None = None


class ProfileSpec(Spec):
    """A set of cards, best card first."""

    gpus: tuple[Name, ...]


class DefaultsSpec(Spec):
    """Values for every model or GPU that does not say otherwise."""

    parallel: Slots = 1
    preload: bool = True
    placement: PlacementMode = PlacementMode.AUTO
    reserve: Bytes = 512 * 2**20


class VersionSpec(Spec):
    """One version of a model's weights.

    Several sources are parts, joined in order. `architecture` and `quantization` name the published
    model whose header can be derived where the file itself cannot be reached.
    """

    version_id: VersionName
    gguf_url: Annotated[tuple[WeightsSource, ...], BeforeValidator(parts), Field(min_length=1)]
    architecture: Name | None = None
    quantization: Annotated[str, Field(pattern=QUANTIZATION_PATTERN)] | None = None
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
    aliases: tuple[Alias, ...] = ()
    purpose_tags: Annotated[tuple[Name, ...], Field(min_length=1)]
    languages: tuple[Line, ...] = ()
    context_tokens: Annotated[int, Field(ge=256, le=10_485_760)]
    cost_tier: CostTier
    current_version: VersionName
    versions: Annotated[tuple[VersionSpec, ...], Field(min_length=1)]
    profiles: dict[ProfileName, InstanceSpec | None]
    parallel: Slots | None = None
    preload: bool | None = None
    placement: PlacementMode | None = None

    @property
    def unit_name(self) -> str:
        """Give the name that its units carry: `name`, or the id where none is given."""
        return self.name or self.id


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
    system_prompt: Annotated[str, Field(max_length=65_536, pattern=TEXT_PATTERN)]
    sampling: SamplingSpec = SamplingSpec()
    stop: tuple[Annotated[str, Field(min_length=1, max_length=500, pattern=TEXT_PATTERN)], ...] = ()


class PurposeSpec(Spec):
    """Candidates in order, and where to go when none can serve."""

    candidates: Annotated[tuple[Name, ...], Field(min_length=1)]
    otherwise: Name | None = None
    default: bool = False


class BusSpec(Spec):
    """Where ChemBus is; `managed: false` if KLoROS's own proxy unit runs it."""

    xsub: BusAddress = "tcp://127.0.0.1:5556"
    xpub: BusAddress = "tcp://127.0.0.1:5557"
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
