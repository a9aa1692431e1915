"""What an installation is doing, as a person wants to know it."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.generation import Interrupted


@dataclass(frozen=True, slots=True)
class CardUse:
    """What an instance holds on a card; unless measured, what its placement foresees."""

    card: str
    used_bytes: int
    is_measured: bool


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """One unit; what only a llama-server has is None or empty for the others, and where nobody can tell.

    `until` says how long it goes on running, `last_error` how it failed and what it wrote last.
    """

    unit: str
    name: str
    profile: str
    state: str
    main_pid: int
    cards: tuple[CardUse, ...] = ()
    is_on_cpu: bool = False
    context_tokens: int | None = None
    slots: int | None = None
    requests: int | None = None
    until: str = ""
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A whole installation; without a generation nothing is installed."""

    generation: int | None
    last_good: int | None
    profile: str
    units: tuple[UnitStatus, ...] = ()
    interrupted: Interrupted | None = None
