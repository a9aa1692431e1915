"""ChemBus envelopes and the `llm.*` payloads (design document, section 7; KLoROS's ChemMessage)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from kloros_infra.ir.catalog import CostTier

REQUEST_TOPIC = "llm.request"
RESPONSE_PREFIX = "llm.response."
HEALTH_TOPIC = "llm.health"
ENVELOPE_SCHEMA_VERSION = 1


class Envelope(BaseModel):
    """KLoROS's ChemMessage, keys in its order; unknown keys (`channel`, `facts_toon`) are let through."""

    model_config = ConfigDict(extra="allow", frozen=True)

    signal: str
    ecosystem: str
    intensity: float = 1.0
    facts: dict[str, Any]
    incident_id: str | None = None
    trace: str | None = None
    ts: float
    schema_version: int = ENVELOPE_SCHEMA_VERSION


class Constraints(BaseModel):
    """What the requester will accept."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    min_context_tokens: PositiveInt | None = None
    max_latency_ms: PositiveInt | None = None
    cost_tier: CostTier | None = None


class ChatMessage(BaseModel):
    """One turn; content is text here, the bridge passes richer content through untouched."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: str
    content: str


class LlmRequest(BaseModel):
    """The payload of `llm.request`; unknown keys are ignored, as KLoROS's receivers do."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    request_id: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
    purpose: str | None = None
    model: str | None = None
    persona: str | None = None
    prompt: str | tuple[ChatMessage, ...]
    max_tokens: PositiveInt | None = None
    temperature: float | None = None
    constraints: Constraints = Constraints()
    metadata: dict[str, Any] = {}
