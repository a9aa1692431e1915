"""hardware.json: what came of a change of the cards. Written by `gpu replan`, read by whoever tells of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class HardwareOutcome(StrEnum):
    """What became of a change."""

    BEGUN = "begun"
    """It was being planned: where it stays so, whoever did it was stopped."""
    PLANNED = "planned"
    APPLIED = "applied"
    NOTHING = "nothing"
    """No compile takes it up, or nothing comes of it."""
    FAILED = "failed"


class HardwareRecord(BaseModel):
    """The file; `changes` in words, `plan` as people name the file, empty where there is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    changes: tuple[str, ...]
    made_at: str
    outcome: HardwareOutcome
    detail: str = ""
    plan: str = ""

    @property
    def sentence(self) -> str:
        """Say what became of it, and what is to be done."""
        match self.outcome:
            case HardwareOutcome.PLANNED:
                why = f" ({self.detail})" if self.detail else ""
                return f"a plan that takes it up waits{why}: `kloros-infra apply {self.plan}`"
            case HardwareOutcome.APPLIED:
                return "a plan that takes it up was applied"
            case HardwareOutcome.NOTHING:
                return self.detail
            case HardwareOutcome.BEGUN | HardwareOutcome.FAILED:
                return f"it could not be taken up: {self.detail or 'that was interrupted'}"
