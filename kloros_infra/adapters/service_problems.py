"""What can go wrong between us and a service manager, as diagnostics."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from kloros_infra.diagnostics import Diagnostic, quoted_log
from kloros_infra.ir.layout import Layout

LOG_LINES = 15


def no_answer(manager: str, reason: str, hint: str) -> Diagnostic:
    """KI602: the service manager cannot be asked."""
    return Diagnostic("KI602", "Service manager does not answer", f"{manager}: {reason}.", hint)


def unit_not_found(unit: str, reason: str) -> Diagnostic:
    """KI601: systemd knows no such unit."""
    return Diagnostic(
        code="KI601",
        summary="Unit not found",
        detail=f"systemd has no {unit}: {reason}",
        hint="Run `kloros-infra apply` to install the units of models.yaml.",
        address=unit,
    )


def unit_failed(unit: str, *, result: str, exit_status: int) -> Diagnostic:
    """KI604: a job on a unit failed; `with_last_lines` says what the unit wrote."""
    status = f", status {exit_status}" if exit_status else ""
    return Diagnostic(
        code="KI604",
        summary="Unit failed",
        detail=f"{unit} failed (result {result}{status}).",
        hint=f"Its last lines say why; `journalctl -u {unit}` has them all.",
        address=unit,
    )


def job_not_finished(unit: str, reason: str) -> Diagnostic:
    """KI605: a job was overtaken, or took too long."""
    return Diagnostic(
        code="KI605",
        summary="Job did not finish",
        detail=f"The job for {unit} {reason}.",
        hint="See what the unit is doing with `kloros-infra status`, then run the command again.",
        address=unit,
    )


def supervisor_not_started(root: str, reason: str) -> Diagnostic:
    """KI607: the embedded supervisor could not be started."""
    return Diagnostic(
        code="KI607",
        summary="Supervisor did not start",
        detail=f"The supervisor for {root} did not start: {reason}",
        hint="The folder must be writable, on a local file system, and served by no other supervisor.",
    )


def refused(unit: str, reason: str) -> Diagnostic:
    """KI609: systemd will not do it."""
    return Diagnostic(
        code="KI609",
        summary="systemd refused",
        detail=f"systemd refused the request{f' for {unit}' if unit else ''}: {reason}",
        hint="Run the command as root, or use --root DIR, which needs neither root nor systemd.",
        address=unit,
    )


def not_allowed(unit: str, *, uid: int, has_polkit: bool) -> Diagnostic:
    """KI842: polkit does not let the router start and stop models."""
    if has_polkit:
        reason = "polkit has no rule that lets it"
        hint = f"Run `kloros-infra apply` as root: it writes {Layout().absolute(Layout().polkit)}."
    else:
        reason = "polkit is not installed, and without it systemd obeys root alone"
        hint = "Install polkit (`apt-get install polkitd`); the rule that it needs is written by `kloros-infra apply`."
    return Diagnostic(
        code="KI842",
        summary="Router may not manage units",
        detail=f"User {uid} may not start, stop or restart {unit}: {reason}.",
        hint=hint,
        address=unit,
    )


def with_last_lines(problem: Diagnostic, lines: Collection[str]) -> Diagnostic:
    """Add what a unit wrote last."""
    return replace(problem, detail=problem.detail + quoted_log(lines))
