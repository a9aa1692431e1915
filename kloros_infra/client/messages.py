"""What is said on the wire: KLoROS's envelope, and the topics of the router."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

REQUEST_TOPIC = "llm.request"
CANCEL_TOPIC = "llm.cancel"
PING_TOPIC = "llm.ping"
RESPONSE_PREFIX = "llm.response."
ECOSYSTEM = "llm"
SCHEMA_VERSION = 1

_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_read = json.JSONDecoder().decode


def facts_text(facts: Mapping[str, Any]) -> str:
    """Write facts once, however often they are sent; raise ValueError or TypeError for what JSON cannot say."""
    return _write(facts)


def written(topic: str, request_id: str, facts: str, *, ts: float) -> bytes:
    """Put facts into an envelope as KLoROS's publishers write it."""
    return (
        f'{{"signal":"{topic}","ecosystem":"{ECOSYSTEM}","intensity":1.0,"facts":{facts},'
        f'"incident_id":"{request_id}","trace":null,"ts":{ts!r},"schema_version":{SCHEMA_VERSION}}}'
    ).encode()


def facts_in(payload: bytes) -> dict[str, Any]:
    """Read the facts of an envelope; empty where it is none."""
    try:
        message = _read(payload.decode())
    except (ValueError, RecursionError):
        return {}
    facts = message.get("facts") if isinstance(message, dict) else None
    return facts if isinstance(facts, dict) else {}
