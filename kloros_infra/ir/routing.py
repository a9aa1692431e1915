"""routing.json: what the router knows. Written by compile, read by the daemon alone."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from kloros_infra.ir.catalog import CostTier, ModelKind, RemoteLink

SCHEMA_VERSION: Final = 1


class RoutingPart(BaseModel):
    """A closed, frozen part of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Upstream(RoutingPart):
    """A llama-server behind the router: one instance and its loopback address."""

    instance: str
    profile: str
    unit: str
    host: str
    port: int
    preload: bool
    context_tokens: int
    parallel: int


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


class RoutedBus(RoutingPart):
    """ChemBus addresses: publishers connect to `xsub`, subscribers to `xpub`."""

    xsub: str
    xpub: str


class RoutedBridge(RoutingPart):
    """Where the HTTP bridge listens."""

    host: str
    ports: tuple[int, ...]


class RoutedCard(RoutingPart):
    """A card that a profile needs, by what identifies it, or by how the host is reached that lends it."""

    name: str
    uuid: str | None
    pci: str | None
    remote: RemoteLink | None = None


class RoutedProfile(RoutingPart):
    """A profile and its cards: what choosing one at boot needs."""

    name: str
    cards: tuple[RoutedCard, ...]


class RoutingTable(RoutingPart):
    """The whole table; `profiles` best first; `profile_file` names the active one."""

    version: Literal[1]
    profiles: tuple[RoutedProfile, ...]
    profile_file: str
    models: tuple[RoutedModel, ...]
    personas: tuple[RoutedPersona, ...]
    purposes: tuple[RoutedPurpose, ...]
    bus: RoutedBus
    bridge: RoutedBridge

    @property
    def profile_names(self) -> tuple[str, ...]:
        return tuple(profile.name for profile in self.profiles)
