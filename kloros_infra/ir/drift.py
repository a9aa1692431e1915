"""What somebody did to a machine that no file of ours shows: drop-ins, masks, processes that run by something else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference that a plan leaves as it is; it matters when units will not run as models.yaml says."""

    address: str
    what: str
    matters: bool
