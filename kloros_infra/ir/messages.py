"""ChemBus envelopes and the `llm.*` payloads (design document, section 7; KLoROS's ChemMessage)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, PositiveInt

from kloros_infra.ir.catalog import CostTier

REQUEST_TOPIC = "llm.request"
RESPONSE_PREFIX = "llm.response."
CANCEL_TOPIC = "llm.cancel"
PING_TOPIC = "llm.ping"
"""Who asks is answered by the router itself, on the topic on which an answer would come."""
PONG_TOPIC = "llm.pong"
"""The router hears itself on it: the bus is there."""
WAITING_TOPIC = "llm.waiting"
"""Tells a client of the direct endpoint that its request is still wanted and where in line it stands."""
RUNTIME_START_TOPIC = "llm.runtime.start"
RUNTIME_STOP_TOPIC = "llm.runtime.stop"
RUNTIME_RESPONSE_PREFIX = "llm.runtime.response."
HEALTH_TOPIC = "llm.health"
ALLOCATION_TOPIC = "llm.allocation"
GPU_PROFILE_TOPIC = "llm.gpu_profile"
HEARTBEAT_TOPIC = "HEARTBEAT"
LLM_ECOSYSTEM = "llm"
HEARTBEAT_ECOSYSTEM = "colony"
VOICE_REQUEST_TOPIC = "VOICE.ORCHESTRATOR.LLM.REQUEST"
VOICE_RESPONSE_TOPIC = "VOICE.LLM.RESPONSE"
VOICE_ERROR_TOPIC = "VOICE.LLM.ERROR"
VOICE_READY_TOPIC = "VOICE.LLM.READY"
VOICE_SHUTDOWN_TOPIC = "VOICE.LLM.SHUTDOWN"
VOICE_SPEAK_TOPIC = "VOICE.ORCHESTRATOR.SPEAK"
VOICE_ECOSYSTEM = "voice"
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
    language: str | None = None
    stream: bool = False
    """Whether the answer is wanted in pieces, too, as it comes."""
    timeout_s: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """How long whoever asks waits."""
    metadata: Any = None
