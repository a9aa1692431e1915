"""ChemBus's wire format, as bytes: KLoROS's envelope out, an `llm.request` in.

A message is two frames, topic and payload. The payload is UTF-8 JSON with compact separators and
non-ASCII escaped, keys in the envelope's order. KLoROS's receivers validate nothing, so a request
may be an envelope with the payload in `facts`, or the design document's flat object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.messages import ENVELOPE_SCHEMA_VERSION, REQUEST_ID_PATTERN, Envelope, LlmRequest

# A prompt of a million tokens is about 4 MB; libzmq cuts the connection of a peer that sends a larger frame.
MAX_PAYLOAD_BYTES = 8 * 2**20
_IS_ID = re.compile(REQUEST_ID_PATTERN).fullmatch
# Metadata, but for who asks, and the time that is left may differ from one sending of a question to the next.
_ASKED = frozenset(LlmRequest.model_fields) - {"metadata", "timeout_s"}
# Within a text of JSON the quotes would be escaped.
_find_id = re.compile(rb'"request_id"\s*:\s*"([A-Za-z0-9][A-Za-z0-9._:-]{0,127})"').search


class Asked(NamedTuple):
    """A valid request, and what its envelope says to carry over into the reply."""

    request: LlmRequest
    incident_id: str | None
    trace: str | None


class Malformed(NamedTuple):
    """Not a valid request; `request_id` is None when there is nobody to answer."""

    request_id: str | None
    incident_id: str | None
    trace: str | None
    problem: Diagnostic


def encode(envelope: Envelope) -> bytes:
    """Write a payload frame as ChemPub does; raise ValueError for NaN and infinity."""
    return json.dumps(envelope.model_dump(), separators=(",", ":"), allow_nan=False).encode()


def write_message(  # noqa: PLR0913 - one argument for each key of the envelope
    signal: str,
    ecosystem: str,
    facts: Mapping[str, Any],
    *,
    ts: float,
    incident_id: str | None = None,
    trace: str | None = None,
    intensity: float = 1.0,
) -> bytes:
    """Write a payload frame of our own quickly; a figure that is not a number becomes null."""
    envelope = {
        "signal": signal,
        "ecosystem": ecosystem,
        "intensity": intensity,
        "facts": facts,
        "incident_id": incident_id,
        "trace": trace,
        "ts": ts,
        "schema_version": ENVELOPE_SCHEMA_VERSION,
    }
    payload = to_json(envelope, inf_nan_mode="null")
    # pydantic's writer is four times as fast and leaves non-ASCII as it is.
    return payload if payload.isascii() else json.dumps(from_json(payload), separators=(",", ":")).encode()


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


def signal_of(message: Mapping[str, Any]) -> str | None:
    """Say which topic a message names itself: an envelope by `signal`, the design's flat object by `topic`."""
    return _text(message, "signal") or _text(message, "topic")


def request_in(message: Mapping[str, Any]) -> Asked | Malformed:
    """Read an `llm.request`, enveloped or flat."""
    facts = facts_of(message)
    incident_id, trace = _text(message, "incident_id"), _text(message, "trace")
    try:
        return Asked(LlmRequest.model_validate(facts), incident_id, trace)
    except ValidationError as error:
        return Malformed(request_id_in(facts), incident_id, trace, _not_valid(_explained(error)))


def facts_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the payload proper: `facts` of an envelope, or the flat object itself."""
    facts = message.get("facts")
    return facts if isinstance(facts, dict) else message


def request_id_in(facts: Mapping[str, Any]) -> str | None:
    """Give a request's id if it can be part of a topic."""
    request_id = _text(facts, "request_id")
    return request_id if request_id is not None and _IS_ID(request_id) else None


def id_in_unreadable(payload: bytes) -> str | None:
    """Find the id of a request that is no JSON, so that whoever sent it can be told."""
    found = _find_id(payload)
    return None if found is None else found[1].decode()


def unreadable() -> Diagnostic:
    """The message is nothing that can be read."""
    return _not_valid(
        f"The message is no JSON object in UTF-8 of at most {MAX_PAYLOAD_BYTES // 2**20} MiB."
        " NaN, infinity and half of a surrogate pair are not JSON."
    )


def question_of(facts: Mapping[str, Any]) -> bytes:
    """Digest who asks what, without what may differ from one sending to the next."""
    asked = {key: value for key, value in facts.items() if key in _ASKED}
    metadata = facts.get("metadata")
    source = metadata.get("source_service") if isinstance(metadata, dict) else None
    return sha256(to_json(asked if source is None else [asked, source])).digest()


def _text(message: Mapping[str, Any], key: str) -> str | None:
    value = message.get(key)
    return value if isinstance(value, str) else None


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
