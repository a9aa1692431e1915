"""What is known of this machine's cards, what people want of them, and what each profile asks of its cards.

Times of the wall clock are in seconds since 1970 (`epoch_s`), those of the clock that nobody sets are `monotonic_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.conditions import STANDARD_CONDITIONS

SHORTEST_HOLD_S = 2.0
"""How long others must use a card, at least, before it is left: what is shorter is a window being drawn, or memory of a
process of ours that has ended and is not given back yet."""


@dataclass(frozen=True, slots=True)
class Now:
    """One instant on both clocks."""

    monotonic_s: float
    epoch_s: float

    def at(self, monotonic_s: float) -> Now:
        """Give another instant, if nobody sets the wall clock between."""
        return Now(monotonic_s, self.epoch_s + (monotonic_s - self.monotonic_s))


@dataclass(frozen=True, slots=True)
class DeclaredCard:
    """A card as models.yaml declares it; one that `is_lent` is of another host, and nobody names it but by place."""

    name: str
    uuid: str | None = None
    pci: str | None = None
    is_lent: bool = False


class FaultKind(StrEnum):
    """What a card has: an event that the driver reported, or a state in which it answers nothing."""

    XID = "xid"
    LOST = "lost"
    RESET_REQUIRED = "reset_required"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the driver said of a card; `xid` is the event's number.

    A fault `is_lasting` where the card answers so now: nothing but its end lifts that.
    """

    kind: FaultKind
    since_epoch_s: float
    xid: int | None = None
    is_lasting: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has memory of a card; None where the driver does not count it by process."""

    pid: int
    name: str
    held_bytes: int | None


@dataclass(frozen=True, slots=True)
class CardReading:
    """What the driver says of one declared card; None is not known, and `obstacle` says why."""

    card: str
    uuid: str | None = None
    pci: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    """Without what the driver keeps for itself, where it says how much that is."""
    processes: tuple[Holder, ...] = ()
    faults: tuple[Fault, ...] = ()
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class DriverReading:
    """What the driver says of all declared cards; `is_stale` where it has not answered in time and this is older."""

    cards: tuple[CardReading, ...] = ()
    trouble: str = ""
    """Why the driver says nothing of any card."""
    is_stale: bool = False
    problems: Problems = ()


@dataclass(frozen=True, slots=True)
class CardFacts:
    """One card as a decision sees it; `foreign_bytes` is what others use, None where that is not known.

    `cleared_epoch_s` is when it was last reset or cleared by hand: faults before that are of the past.
    """

    card: str
    is_present: bool
    uuid: str | None = None
    pci: str | None = None
    total_bytes: int | None = None
    foreign_bytes: int | None = None
    holders: tuple[Holder, ...] = ()
    faults: tuple[Fault, ...] = ()
    cleared_epoch_s: float | None = None


@dataclass(frozen=True, slots=True)
class Lockout:
    """A card that somebody keeps from us, until a time or until he gives it back."""

    card: str
    reason: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file as it was found; `text` is None where it cannot be read, and `obstacle` says why.

    A name that ends with a slash is of a folder that cannot be listed. `others` are files to which the obstacle applies
    as well, where they are too many to be told one by one.
    """

    name: str
    text: str | None
    obstacle: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicySource:
    """What one source of policy says; None where it cannot be understood, so that what it said last stays.

    What `others` said last stays then as well.
    """

    name: str
    lockouts: tuple[Lockout, ...] | None
    problems: Problems = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What people want: lockouts, and a profile that is pinned by hand."""

    sources: tuple[PolicySource, ...] = ()
    pin: str | None = None


@dataclass(frozen=True, slots=True)
class ProfileRule:
    """What a profile asks of its cards: which, how much others may use of each, and for how long."""

    name: str
    cards: tuple[str, ...]
    leave_above_bytes: int = STANDARD_CONDITIONS.leave_above_bytes
    take_below_bytes: int = STANDARD_CONDITIONS.take_below_bytes
    regain_after_s: float = STANDARD_CONDITIONS.regain_after_s
    release_after_s: float = STANDARD_CONDITIONS.release_after_s

    @property
    def hold_s(self) -> float:
        """Say how long others must use a card before it is left."""
        return max(self.release_after_s, SHORTEST_HOLD_S)


@dataclass(frozen=True, slots=True)
class TopologyFacts:
    """Everything that a decision is made of; `profiles` best first, at least one."""

    profiles: tuple[ProfileRule, ...]
    cards: tuple[CardFacts, ...]
    policy: Policy = Policy()
