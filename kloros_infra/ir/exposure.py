"""How much of the machine a service can reach, as systemd scores it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exposure:
    """A score from 0 (best) to 10, and the settings that add most to it, worst first; systemd-analyze(1)."""

    score: float
    causes: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ExposureChange:
    """What a plan does to a service's score; nothing stands for a new service, or for no limit."""

    before: float | None
    after: float
    limit: float | None = None
