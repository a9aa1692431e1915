"""The texts that a project is compiled from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kloros_infra.ir.detected_card import DetectedCard


@dataclass(frozen=True, slots=True)
class Sources:
    """A project's files, and the names that messages call them by; `headers` by the names the lock uses.

    `parts` are the texts that models.yaml includes, in order; `overrider_records` are by the name of an instance.
    """

    text: str
    file: str
    lock_text: str | None
    lock_file: str
    headers: Mapping[str, str]
    parts: Mapping[str, str] = field(default_factory=dict)
    overrider_records: Mapping[str, str] = field(default_factory=dict)
    detected: tuple[DetectedCard, ...] = ()
    """Cards as they are there, where they are to count instead of what is declared."""
