"""routing.json: what the router knows. Written by compile, read by the daemon alone."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from kloros_infra.ir.announcements import News, NewsKind
from kloros_infra.ir.card_share import MIB
from kloros_infra.ir.catalog import CostTier, ModelKind, RemoteLink
from kloros_infra.ir.conditions import STANDARD_CONDITIONS
from kloros_infra.ir.requests import ClientAccess, Mark, Priority, UpstreamKind

SCHEMA_VERSION: Final = 2


class RoutingPart(BaseModel):
    """A closed, frozen part of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RoutedShare(RoutingPart):
    """How much of one card an instance takes, in MiB."""

    card: str
    mib: int


class Upstream(RoutingPart):
    """A llama-server behind the router: one instance and its loopback address.

    `definition` is a digest of all that it is started by: a load that failed is not tried again before it changes.
    `load_s` is how long loading is expected to take, `idle_timeout_s` None where it is never stopped for idleness.
    """

    instance: str
    profile: str
    unit: str
    host: str
    port: int
    preload: bool
    context_tokens: int
    parallel: int
    is_pinned: bool = False
    idle_timeout_s: float | None = 300.0
    drain_s: float = 30.0
    lease_s: float = 600.0
    load_s: float = 10.0
    shares: tuple[RoutedShare, ...] = ()
    decode_tokens_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    definition: str = ""
    beside: tuple[str, ...] = ()
    """Instances of its model on other devices, which can run beside it: units of all others stop each other."""


class RoutedModel(RoutingPart):
    """A model, what it is good for, and its upstreams by profile."""

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
    size_bytes: int
    sha256: str | None
    architecture: str
    upstreams: tuple[Upstream, ...]
    group: str | None = None
    """Models of one group take turns on their cards."""
    data_class: str | None = None
    """The most sensitive data that it may see; None where it may see all."""

    def upstream(self, profile: str) -> Upstream | None:
        """Find the instance that serves under a profile."""
        return next((u for u in self.upstreams if u.profile == profile), None)

    def context_under(self, profile: str) -> int:
        """Say how many tokens a request gets under a profile; the model's own figure where it has no instance."""
        upstream = self.upstream(profile)
        return self.context_tokens if upstream is None else upstream.context_tokens


class RoutedPersona(RoutingPart):
    """A persona's prompt, sampling and form of answer, merged into each request that names it."""

    id: str
    model_id: str
    aliases: tuple[str, ...]
    display_name: str
    system_prompt: str
    sampling: dict[str, float | int]
    stop: tuple[str, ...]
    response_format: dict[str, Any] | None
    tools: tuple[dict[str, Any], ...]


class RoutedPurpose(RoutingPart):
    """A purpose, its candidates best first, and the purpose to try when none can serve."""

    name: str
    candidates: tuple[str, ...]
    otherwise: str | None
    is_default: bool
    marks: tuple[Mark, ...] = ()
    """A request without a purpose that bears one of them is taken for this one."""
    max_latency_s: float | None = None
    max_cost_tier: CostTier | None = None
    priority: Priority = Priority.INTERACTIVE
    can_continue_elsewhere: bool = False


class RoutedBus(RoutingPart):
    """ChemBus addresses: publishers connect to `xsub`, subscribers to `xpub`, askers in a hurry to `direct`."""

    xsub: str
    xpub: str
    direct: str | None = None
    has_voice: bool = True
    """Whether KLoROS's own requests for words are answered, in place of its voice zooid."""


class RoutedBridge(RoutingPart):
    """Where the HTTP bridge listens, and how long it waits."""

    host: str
    ports: tuple[int, ...]
    credential: str | None = None
    max_queued: int = 256
    first_byte_timeout_s: float = 300.0
    stall_timeout_s: float = 30.0


class RoutedCard(RoutingPart):
    """A card that a profile needs, by what identifies it, or by how the host is reached that lends it."""

    name: str
    uuid: str | None
    pci: str | None
    remote: RemoteLink | None = None
    vram_mib: int = 0
    """As declared."""
    is_locked: bool = False
    """Whether models.yaml itself locks it out."""
    shared_with: str | None = None
    """Who else uses it, in the words of models.yaml."""


class RoutedProfile(RoutingPart):
    """A profile, its cards, and when others' use of them has it left and taken again: what choosing one needs."""

    name: str
    cards: tuple[RoutedCard, ...]
    leave_above_mib: int = STANDARD_CONDITIONS.leave_above_bytes // MIB
    take_below_mib: int = STANDARD_CONDITIONS.take_below_bytes // MIB
    regain_after_s: float = STANDARD_CONDITIONS.regain_after_s
    release_after_s: float = STANDARD_CONDITIONS.release_after_s


class RoutedCapacity(RoutingPart):
    """What instances may take of a card together, in MiB."""

    card: str
    mib: int


class RoutedHost(RoutingPart):
    """A remote host that answers requests; `models` are ids here and names there, lower `priority` goes first."""

    name: str
    kind: UpstreamKind
    address: str
    port: int
    path: str
    is_tls: bool
    priority: int
    toggle: str | None
    credential: str | None
    health_path: str
    health_interval_s: float
    health_timeout_s: float
    health_failures: int
    models: dict[str, str]


class RoutedClient(RoutingPart):
    """Who asks, and what he may ask for; None stands for everything."""

    name: str
    sources: tuple[str, ...]
    credential: str | None
    models: tuple[str, ...] | None
    purposes: tuple[str, ...] | None
    data_class: str | None
    priority: Priority | None
    max_queued: int | None
    requests_per_minute: int | None


class RoutedPolicies(RoutingPart):
    """Who may do what; `data_classes` least sensitive first."""

    clients: tuple[RoutedClient, ...] = ()
    unknown_clients: ClientAccess = ClientAccess.ALLOW
    data_classes: tuple[str, ...] = ()


class RoutedAnnouncements(RoutingPart):
    """What KLoROS says aloud when something changes: what of, how often, how urgently, and in which words."""

    kinds: tuple[NewsKind, ...]
    least_interval_s: float
    urgency: float
    texts: dict[News, str]


LOCAL_PRIORITY = 50
"""Where this machine's instances stand among hosts that serve the same model."""


class RoutingTable(RoutingPart):
    """The whole table; `profiles` best first; `profile_file` names the active one."""

    version: Literal[2]
    profiles: tuple[RoutedProfile, ...]
    profile_file: str
    models: tuple[RoutedModel, ...]
    personas: tuple[RoutedPersona, ...]
    purposes: tuple[RoutedPurpose, ...]
    bus: RoutedBus
    bridge: RoutedBridge
    capacities: tuple[RoutedCapacity, ...] = ()
    hosts: tuple[RoutedHost, ...] = ()
    policies: RoutedPolicies = RoutedPolicies()
    leases_file: str | None = None
    """The journal of allocations, which survives the router; None keeps none."""
    answers_file: str | None = None
    """The journal of answered requests of the bus, which survives the router; None keeps none."""
    cards_file: str | None = None
    """How each card stands (ir.cards_report); None where nobody looks at cards."""
    control_socket: str | None = None
    """The Unix socket of the runtime control API; None where there is none."""
    unused_cards: tuple[RoutedCard, ...] = ()
    """Cards of this host that no profile needs: whoever looks for new ones knows them."""
    announcements: RoutedAnnouncements | None = None
    """What is said aloud; None where nothing is."""
    metrics_port: int | None = None

    @property
    def profile_names(self) -> tuple[str, ...]:
        return tuple(profile.name for profile in self.profiles)
