"""Something that an apply, or who runs the units, did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """When (ISO 8601, UTC, milliseconds), who and what; events in order of time sort by their text."""

    at: str
    source: str
    text: str
