"""What an installation is doing, as a person wants to know it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.generation import Interrupted
from kloros_infra.ir.stop_cause import StopCause


@dataclass(frozen=True, slots=True)
class CardUse:
    """What an instance holds on a card; unless measured, what its placement foresees."""

    card: str
    used_bytes: int
    is_measured: bool


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """One unit; what only a llama-server has is None or empty for the others, and where nobody can tell.

    `until` says how long it goes on running, `last_error` how it failed and what it wrote last, `stopped_for` why the
    router does not let it run.
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
    stopped_for: StopCause | None = None


class Remedy(StrEnum):
    """What becomes of an apply that was interrupted."""

    COMPLETE = "complete"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An apply that is undone to the generation `previous` unless it is confirmed within `left_s`.

    With no time left, or none that is known, it was not confirmed, and `recover` undoes it.
    """

    previous: int | None
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """A whole installation; without a generation nothing is installed.

    `apply_in_work` is the step that an apply is at right now, `interrupted` where one was killed, and `remedy` what
    `recover`, or the next apply, makes of that.
    """

    generation: int | None
    last_good: int | None
    profile: str
    units: tuple[UnitStatus, ...] = ()
    interrupted: Interrupted | None = None
    remedy: Remedy | None = None
    apply_in_work: str | None = None
    unconfirmed: Unconfirmed | None = None
    cards: CardsReport | None = None
    """How the cards stand, and why the profile is; None where nobody follows them."""
