"""Say why a request or a file that the router reads was not accepted: KI811 to KI819, KI877."""

from __future__ import annotations

from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.routing import SCHEMA_VERSION as VERSION

OTHER_VERSION = "KI819"


def deadline_passed(limit_s: float) -> Diagnostic:
    """The answer was not complete in the time that the request allows."""
    return Diagnostic(
        code="KI811",
        summary="Deadline passed",
        detail=f"The answer was not complete within {limit_s:g} s.",
        hint="Allow a larger constraints.max_latency_ms, a smaller max_tokens, or ask a faster purpose.",
    )


def shutting_down() -> Diagnostic:
    """The router is stopping."""
    return Diagnostic(
        code="KI812",
        summary="The router is shutting down",
        detail="The request came, or was still being answered, while the router stopped.",
        hint="Ask again in a moment, with a new request_id.",
    )


def table_unreadable(name: str, reason: str) -> Diagnostic:
    """The routing table is missing or is not one."""
    return Diagnostic(
        code="KI813",
        summary="Routing table cannot be read",
        detail=f"{name}: {reason}.",
        hint="The file is written by `kloros-infra apply`; apply again instead of editing it.",
    )


def other_version(name: str, found: object) -> Diagnostic:
    """The routing table is one that another version of kloros-infra wrote."""
    return Diagnostic(
        code=OTHER_VERSION,
        summary="Routing table of another version",
        detail=f"{name} is of version {found}, as another release of kloros-infra writes it; this one reads {VERSION}.",
        hint="Run `kloros-infra apply`: it writes the file anew, and the router takes it up by itself.",
    )


def profile_unknown(name: str, profile: str, kept: str) -> Diagnostic:
    """The profile file names a profile that the table does not have."""
    return Diagnostic(
        code="KI814",
        summary="Unknown profile in the profile file",
        detail=f"{name} says '{profile}', which the routing table does not have. '{kept}' is active.",
        hint="`kloros-infra profile` writes the file; apply again if models.yaml has new profiles.",
        severity=Severity.WARNING,
    )


def profile_missing(name: str, kept: str) -> Diagnostic:
    """There is no profile file, or it cannot be read."""
    return Diagnostic(
        code="KI818",
        summary="No profile file",
        detail=f"{name} cannot be read, so nothing says which profile is active. '{kept}' is taken.",
        hint="`kloros-infra profile` writes the file; kloros-profile.service runs it at boot.",
        severity=Severity.WARNING,
    )


def cards_unreadable(name: str, reason: str) -> Diagnostic:
    """The report of the cards is not one."""
    return Diagnostic(
        code="KI877",
        summary="Report of the cards cannot be read",
        detail=f"{name}: {reason}. The cards are taken to stand as they did.",
        hint="The file is written by kloros-gpu.service; `kloros-infra gpu reconcile` writes it anew.",
        severity=Severity.WARNING,
    )


def crashed() -> Diagnostic:
    """The router met a defect of its own."""
    return Diagnostic(
        code="KI815",
        summary="The router failed on this request",
        detail="Answering met a defect in the router; its log has the traceback.",
        hint="Other requests are not affected. Please report the traceback.",
    )


def too_many(limit: int) -> Diagnostic:
    """As many requests wait as the router will hold."""
    return Diagnostic(
        code="KI816",
        summary="Too many requests waiting",
        detail=f"{limit} requests are being answered or wait for their turn.",
        hint="Ask again later, with a new request_id.",
    )


def restart_needed(what: str) -> Diagnostic:
    """The new table has addresses that are taken up only at start."""
    return Diagnostic(
        code="KI817",
        summary="Restart needed",
        detail=f"The new routing table has other {what}; the router listens where it did.",
        hint="Restart kloros-router.service to take them up.",
        severity=Severity.WARNING,
    )
