"""What a profile asks of its cards beside their presence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conditions:
    """How much of each card others may use, and for how long that must hold before anything follows."""

    leave_above_bytes: int = 2 * 2**30
    take_below_bytes: int = 2**30
    regain_after_s: float = 30.0
    release_after_s: float = 0.0


STANDARD_CONDITIONS = Conditions()
"""Where a profile says nothing else."""
