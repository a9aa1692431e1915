"""What a check says: that something is as it should be, or what is not, why that matters, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.doctor.facts import Unseen


class Status(StrEnum):
    """How bad it is: with a failure something does not work, with a warning it may not, or not for long."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Group(StrEnum):
    """What checks are about, in the order in which one would mend them."""

    CARDS = "Cards and driver"
    SERVER = "llama-server"
    MACHINE = "Machine"
    STORAGE = "Disk and weights"
    INSTALLATION = "Installation"
    NETWORK = "Ports, bus and router"


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which something is not as it should be; `fix` may have places for values, in braces."""

    code: str
    status: Status
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found: `kind` is None where all is well."""

    detail: str
    kind: Kind | None = None
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    group: Group
    status: Status
    detail: str
    code: str = ""
    why: str = ""
    fix: str = ""


NOT_SEEN = Kind(
    "KI930",
    Status.WARNING,
    "What could not be looked at may be as it should be, or not.",
    "{fix}",
)


def fine(detail: str) -> Finding:
    """Say that all is well."""
    return Finding(detail)


def found(kind: Kind, detail: str, **values: str) -> Finding:
    """Say what is not, with the values that the way to mend it needs."""
    return Finding(detail, kind, kind.fix.format(**values))


def not_seen(fact: Unseen) -> Finding:
    """Say that it could not be looked at."""
    return found(NOT_SEEN, f"not seen: {fact.reason}", fix=fact.fix)


def as_check(name: str, group: Group, finding: Finding) -> Check:
    """Put a finding into the report."""
    kind = finding.kind
    if kind is None:
        return Check(name, group, Status.OK, finding.detail)
    return Check(name, group, kind.status, finding.detail, kind.code, kind.why, finding.fix)
