"""What was asked of plan: written into a saved plan, so that apply can ask the same again and compare."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The options of a plan; `supposed` maps names of GPUs to whether they are to be taken as present.

    `host` is one that lends its cards, where the plan is made for that one.
    """

    file: str = "models.yaml"
    root: str = "/"
    manager: str = "auto"
    profile: str | None = None
    supposed: tuple[tuple[str, bool], ...] = ()
    only: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    is_destroy: bool = False
    is_with_weights: bool = False
    resets_pins: bool = False
    host: str | None = None
    is_detected: bool = False
    """Whether the cards are taken as the driver says that they are."""
