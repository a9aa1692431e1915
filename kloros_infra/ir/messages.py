"""ChemBus envelopes and the `llm.*` payloads (design document, section 7; KLoROS's ChemMessage)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, PositiveInt

from kloros_infra.ir.catalog import CostTier

REQUEST_TOPIC = "llm.request"
RESPONSE_PREFIX = "llm.response."
HEALTH_TOPIC = "llm.health"
HEARTBEAT_TOPIC = "HEARTBEAT"
LLM_ECOSYSTEM = "llm"
HEARTBEAT_ECOSYSTEM = "colony"
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

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


def as_turns(prompt: Any) -> Any:
    """Read a bare text as one turn of the user; raise ValueError for anything but text or a list."""
    if isinstance(prompt, str) and prompt:
        return ({"role": "user", "content": prompt},)
    if isinstance(prompt, list | tuple):
        return prompt
    raise ValueError("expected text, or a list of messages with role and content")


# A fixed, harmless alphabet: the id becomes part of a topic, and topics are prefixes.
REQUEST_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"


class LlmRequest(BaseModel):
    """The payload of `llm.request`; unknown keys are ignored, as KLoROS's receivers do."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    request_id: Annotated[str, Field(pattern=REQUEST_ID_PATTERN)]
    purpose: str | None = None
    model: str | None = None
    persona: str | None = None
    prompt: Annotated[tuple[ChatMessage, ...], BeforeValidator(as_turns), Field(min_length=1)]
    max_tokens: PositiveInt | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0)] | None = None
    constraints: Annotated[Constraints, BeforeValidator(lambda value: {} if value is None else value)] = Constraints()
    metadata: Any = None
