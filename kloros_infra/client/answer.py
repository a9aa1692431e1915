"""A whole answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kloros_infra.client.errors import refused


class Answer(NamedTuple):
    """What a model answered, and who it was; `str()` is its text."""

    text: str
    model_id: str
    profile: str
    request_id: str
    metadata: Mapping[str, Any]
    """All that the router says of the answer: tokens, times, why this model."""

    def __str__(self) -> str:
        return self.text


def answer_in(facts: Mapping[str, Any]) -> Answer:
    """Read a reply; raise RefusedError or NoAnswerError where it is none."""
    if not facts.get("success"):
        raise refused(facts)
    metadata = facts.get("metadata") or {}
    return Answer(
        str(facts.get("response", "")),
        str(metadata.get("model_id", "")),
        str(metadata.get("profile", "")),
        str(facts.get("request_id", "")),
        metadata,
    )
