"""The resolved models (design document: registry): every default applied, every reference bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from kloros_infra.ir.catalog_services import BridgeAddresses, BusAddresses
from kloros_infra.ir.conditions import Conditions
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.on_change import OnChange
from kloros_infra.ir.relaxation import Relaxation

if TYPE_CHECKING:
    from kloros_infra.ir.announcements import Announcements

    # Words about requests speak of models, so they stand above them.
    from kloros_infra.ir.catalog_requests import Client, RemoteHost, RemoteModel

    # The router starts without the lock, whose checks take longer to build than all of this.
    from kloros_infra.ir.lock import LockedWeights
    from kloros_infra.ir.requests import Mark, Priority

ArgumentValue = bool | int | float | str | tuple[int | float | str, ...]
"""`True` for an option without a value, `False` for its `no-` twin; a tuple stands for several occurrences."""


class ModelKind(StrEnum):
    """What a model is asked for; vision is chat with images."""

    CHAT = "chat"
    VISION = "vision"
    EMBEDDING = "embedding"
    RERANK = "rerank"

    @property
    def can_chat(self) -> bool:
        return self in (ModelKind.CHAT, ModelKind.VISION)


OLDEST_SYSTEMD = 252
"""The version whose keys every unit keeps to: Debian 12's."""
KEEP_GENERATIONS = 10
"""How many generations stay unless models.yaml says otherwise."""

LOW_COST_BELOW_BYTES = 3 * 2**30
"""About 4 000 million weights of four bits."""
MEDIUM_COST_BELOW_BYTES = 12 * 2**30
"""About 20 000 million weights of four bits: what one card of a usual machine holds."""


class CostTier(StrEnum):
    """Compute cost of a request, the design document's three steps."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @classmethod
    def of_weights(cls, size_bytes: int) -> CostTier:
        """Say what a request costs where nobody says otherwise: each token reads all the weights once."""
        if size_bytes < LOW_COST_BELOW_BYTES:
            return cls.LOW
        return cls.MEDIUM if size_bytes < MEDIUM_COST_BELOW_BYTES else cls.HIGH

    @property
    def rank(self) -> int:
        return {"low": 1, "medium": 2, "high": 3}[self.value]


class PlacementMode(StrEnum):
    """How a model's tensors are given to devices."""

    AUTO = "auto"
    SOLVER = "solver"
    OVERRIDER = "overrider"
    FIT = "fit"
    MANUAL = "manual"


class KvType(StrEnum):
    """Type in which keys and values are kept (llama.cpp, common/arg.cpp, kv_cache_types)."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    Q4_1 = "q4_1"
    IQ4_NL = "iq4_nl"
    Q5_0 = "q5_0"
    Q5_1 = "q5_1"


class ResponseType(StrEnum):
    """Form of an answer, by OpenAI's names."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


GIGABIT_BYTES_PER_S = 117_000_000
"""What TCP gets of a network of one gigabit per second."""


@dataclass(frozen=True, slots=True)
class RemoteLink:
    """How a card of another host is reached: `address` has an RPC server on any of the ports, or nobody listens."""

    address: str
    ports: tuple[int, ...]
    bandwidth_bytes_per_s: int


@dataclass(frozen=True, slots=True)
class RpcHost:
    """A host that lends its cards by RPC servers, which only the local host's address may reach."""

    name: str
    address: str
    interface: str
    program: str
    clients: tuple[str, ...]
    ports: tuple[tuple[InstanceId, int], ...]
    """The port of each instance whose profile has a card of this host."""

    def port_of(self, instance: InstanceId) -> int:
        return dict(self.ports)[instance]


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """How fast a device was measured to be, as multiples of what is foreseen of its kind (`modelctl bench`)."""

    decode: float = 1.0
    prefill: float = 1.0


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
    model: str | None = None
    """What the driver calls it; where it is not said, its name here may tell."""
    tflops: float | None = None
    link_bytes_per_s: int | None = None
    layer_overhead_s: float | None = None
    """Figures in place of those that are known or guessed of its model."""
    remote: RemoteLink | None = None
    """For a card of another host."""
    measured: MeasuredSpeed = MeasuredSpeed()
    is_locked: bool = False
    """Whether models.yaml itself locks it out."""
    shared_with: str | None = None
    """Who else uses it, in the words of models.yaml."""

    @property
    def usable_bytes(self) -> int:
        return max(0, self.vram_bytes - self.reserve_bytes)


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of cards, in the order in which llama.cpp shall see them."""

    name: str
    cards: tuple[Card, ...]
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def local_cards(self) -> tuple[Card, ...]:
        return tuple(card for card in self.cards if card.remote is None)


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
    projector: LockedWeights | None
    """A vision model's second file, which turns images into tokens."""
    chat_template: str | None
    """One of llama.cpp's own, in place of the file's."""
    draft: Draft | None
    relaxed: tuple[Relaxation, ...] = ()
    """What its units may do beyond the sandbox of all."""
    group: str | None = None
    """Models of one group take turns on their cards."""
    data_class: str | None = None
    """The most sensitive data that it may see; None where it may see all."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A small model that proposes tokens for another one to check."""

    model_id: str
    version_id: str
    weights: LockedWeights
    max_tokens: int
    min_tokens: int
    min_probability: float


@dataclass(frozen=True, slots=True)
class Preference:
    """How many tokens of prompt are read for how many generated: the weights of the two speeds."""

    prefill: float = 4.0
    decode: float = 1.0

    def seconds(self, prefill_s: float, decode_s: float) -> float:
        """Weigh the seconds per token of the two: what a placement shall make small."""
        return self.prefill * prefill_s + self.decode * decode_s


@dataclass(frozen=True, slots=True)
class HostMemory:
    """The memory of the machine itself, for layers that stay with the processor; None where it does not limit."""

    bandwidth_bytes_per_s: int = 51_200_000_000
    usable_bytes: int | None = None
    measured: MeasuredSpeed = MeasuredSpeed()


@dataclass(frozen=True, slots=True)
class Serving:
    """How an instance is served: the nearest of profile, model, defaults and standard, setting by setting."""

    context_tokens: int
    parallel: int
    cache_type_k: KvType
    cache_type_v: KvType
    placement: PlacementMode
    preload: bool
    arguments: tuple[tuple[str, ArgumentValue], ...]
    """Further options of llama-server by their long names without dashes, sorted."""
    preference: Preference = Preference()
    cache_type_choices: tuple[KvType, ...] = ()
    """Types that keys and values may be kept in instead where that is faster, most wanted first."""
    min_context_tokens: int | None = None
    """What the context may be lowered to where a model would else not fit on the cards."""
    on_change: OnChange = OnChange.RESTART
    is_pinned: bool = False
    idle_timeout_s: float | None = None
    """None where it is never stopped for being idle."""
    drain_s: float = 30.0
    lease_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Instance:
    """One model under one profile, with its port.

    `gpu_percentages` and `layers` have one figure for each card of the profile, in its order. Where a profile before
    has an instance that is started alike, both are one unit: `shared_with` is the earlier one's.
    """

    id: InstanceId
    model: Model
    profile: Profile
    port: int
    serving: Serving
    gpu_percentages: tuple[float, ...] | None
    layers: tuple[int, ...] | None
    has_own_port: bool = True
    """Whether models.yaml gives it its port."""
    shared_with: InstanceId | None = None

    @property
    def written_as(self) -> InstanceId:
        """Name the instance whose unit serves it: its own, or the one that it is shared with."""
        return self.shared_with or self.id

    @property
    def unit(self) -> str:
        return self.written_as.unit


@dataclass(frozen=True, slots=True)
class Persona:
    """A system prompt, sampling and form of answer over a base model (replaces Ollama's Modelfile).

    `response_format` and `tools` are JSON texts, as a chat request carries them.
    """

    id: str
    model_id: str
    aliases: tuple[str, ...]
    display_name: str
    system_prompt: str
    sampling: tuple[tuple[str, float | int], ...]
    stop: tuple[str, ...]
    response_format: str | None
    tools: str | None


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a request may ask for, and the models that serve it, best first."""

    name: str
    candidates: tuple[str, ...]
    otherwise: str | None
    is_default: bool
    priority: Priority
    marks: tuple[Mark, ...] = ()
    """A request without a purpose that bears one of them is taken for this one."""
    max_latency_s: float | None = None
    max_cost_tier: CostTier | None = None
    can_continue_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What the units of llama-server may do beside what they must."""

    read_only_paths: tuple[str, ...]
    memory_headroom_bytes: int
    cpu_weight: int | None
    io_weight: int | None
    exposure_limit: float
    """What systemd's score of a service may be at most, from 0 to 10."""
    relaxed: tuple[Relaxation, ...] = ()


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
    sandbox: Sandbox
    log_level: str
    memory: HostMemory = HostMemory()
    tensor_overrider: tuple[str, ...] = ()
    """The words that run the external gguf-tensor-overrider; none where it is not configured."""
    rpc_hosts: tuple[RpcHost, ...] = ()
    systemd_version: int = OLDEST_SYSTEMD
    keep_generations: int = KEEP_GENERATIONS
    remote_hosts: tuple[RemoteHost, ...] = ()
    remote_models: tuple[RemoteModel, ...] = ()
    """Those of which nothing is installed here."""
    clients: tuple[Client, ...] = ()
    refuses_unknown_clients: bool = False
    data_classes: tuple[str, ...] = ()
    """Least sensitive first."""
    announcements: Announcements | None = None
    """What is said aloud when something changes; None where nothing is."""
    unused_cards: tuple[Card, ...] = ()
    """Cards of this host that are declared and in no profile."""
    applies_hardware_changes: bool = False
    """Whether a plan for cards that have changed is applied by itself; else it waits."""
    metrics_port: int | None = None

    @property
    def cards(self) -> tuple[Card, ...]:
        """List the cards of all profiles, each once."""
        return tuple({card.name: card for profile in self.profiles for card in profile.cards}.values())
