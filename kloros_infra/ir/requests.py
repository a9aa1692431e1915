"""Words about requests that models.yaml, the routing table and the router share."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from kloros_infra.ir.catalog import ModelKind


class Priority(StrEnum):
    """Whose requests go first."""

    VOICE = "voice"
    INTERACTIVE = "interactive"
    BATCH = "batch"

    @property
    def rank(self) -> int:
        return {"voice": 0, "interactive": 1, "batch": 2}[self.value]


class UpstreamKind(StrEnum):
    """What answers on a remote host."""

    LLAMA_CPP = "llama_cpp"
    OLLAMA = "ollama"
    OPENAI = "openai"


class ClientAccess(StrEnum):
    """What happens to requests of clients that models.yaml does not name."""

    ALLOW = "allow"
    REFUSE = "refuse"


class Mark(BaseModel):
    """Marks by which a request that states no purpose is known; all that are given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contains: tuple[str, ...] = ()
    model: str | None = None
    sources: tuple[str, ...] = ()
    kind: ModelKind | None = None
    has_images: bool | None = None
    has_tools: bool | None = None
    min_tokens: int | None = None
