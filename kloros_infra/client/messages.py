"""What is said on the wire: KLoROS's envelope, and the topics of the router."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kloros_infra.client.errors import not_text, too_long

REQUEST_TOPIC = "llm.request"
CANCEL_TOPIC = "llm.cancel"
PING_TOPIC = "llm.ping"
RESPONSE_PREFIX = "llm.response."
ECOSYSTEM = "llm"
SCHEMA_VERSION = 1
MAX_PAYLOAD_BYTES = 8 * 2**20
"""Whoever sends a longer message is cut off by the router, with all else that it asked."""
ENVELOPE_BYTES = 256
"""More than `written` puts around the facts of a question."""

_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_write_plainly = json.JSONEncoder(ensure_ascii=False).encode
_read = json.JSONDecoder().decode


def facts_text(facts: Mapping[str, Any]) -> str:
    """Write facts once, however often they are sent.

    Raises ValueError or TypeError for what JSON cannot say, RefusedError for what the router cannot take in.
    """
    text = _write(facts)
    if len(text) > MAX_PAYLOAD_BYTES - ENVELOPE_BYTES:
        raise too_long(len(text), MAX_PAYLOAD_BYTES - ENVELOPE_BYTES)
    if "\\ud" in text:
        _require_text(text)
    return text


def _require_text(written_facts: str) -> None:
    """Refuse half of a surrogate pair; two halves that were joined by writing them are a character again."""
    try:
        _write_plainly(_read(written_facts)).encode()
    except UnicodeEncodeError as error:
        raise not_text(error.object[error.start]) from error


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
