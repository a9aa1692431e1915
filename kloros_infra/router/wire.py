"""ChemBus's wire format, as bytes: KLoROS's envelope out, an `llm.request` in.

A message is two frames, topic and payload. The payload is UTF-8 JSON with compact separators and
non-ASCII escaped, keys in the envelope's order. KLoROS's receivers validate nothing, so a request
may be an envelope with the payload in `facts`, or the design document's flat object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.messages import REQUEST_ID_PATTERN, Envelope, LlmRequest

# A prompt of a million tokens is about 4 MB; libzmq cuts the connection of a peer that sends a larger frame.
MAX_PAYLOAD_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid request, and what its envelope says to carry over into the reply."""

    request: LlmRequest
    incident_id: str | None
    trace: str | None


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a valid request; `request_id` is None when there is nobody to answer."""

    request_id: str | None
    incident_id: str | None
    trace: str | None
    problem: Diagnostic


def encode(envelope: Envelope) -> bytes:
    """Write a payload frame as ChemPub does; raise ValueError for NaN and infinity."""
    return json.dumps(envelope.model_dump(), separators=(",", ":"), allow_nan=False).encode()


def read_object(payload: bytes) -> dict[str, Any] | None:
    """Read a payload frame; None for anything but a JSON object of reasonable size and depth.

    pydantic's reader bounds the depth and refuses bad UTF-8, lone surrogates and NaN, all with ValueError.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    try:
        value = from_json(payload, allow_inf_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_request(payload: bytes) -> Asked | Malformed:
    """Read an `llm.request`, enveloped or flat."""
    message = read_object(payload)
    if message is None:
        return Malformed(None, None, None, _not_valid("It is not a JSON object."))
    facts = facts_of(message)
    incident_id, trace = _text(message, "incident_id"), _text(message, "trace")
    try:
        return Asked(LlmRequest.model_validate(facts), incident_id, trace)
    except ValidationError as error:
        return Malformed(_readable_id(facts), incident_id, trace, _not_valid(_explained(error)))


def facts_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the payload proper: `facts` of an envelope, or the flat object itself."""
    facts = message.get("facts")
    return facts if isinstance(facts, dict) else message


def _text(message: Mapping[str, Any], key: str) -> str | None:
    value = message.get(key)
    return value if isinstance(value, str) else None


def _readable_id(facts: Mapping[str, Any]) -> str | None:
    request_id = _text(facts, "request_id")
    return request_id if request_id is not None and re.fullmatch(REQUEST_ID_PATTERN, request_id) else None


def _explained(error: ValidationError) -> str:
    """List what is wrong, by key; values are left out, they may be private."""
    lines = {".".join(str(part) for part in problem["loc"]): problem["msg"] for problem in error.errors()}
    return " ".join(f"{key}: {message}." for key, message in sorted(lines.items()))


def _not_valid(detail: str) -> Diagnostic:
    return Diagnostic(
        code="KI810",
        summary="Request not understood",
        detail=detail,
        hint="Send a JSON object with request_id and prompt at least, and a purpose or a model.",
    )
