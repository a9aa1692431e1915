"""What can go wrong in the embedded supervisor, as diagnostics."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from kloros_infra.diagnostics import Diagnostic, Span


def unit_not_found(unit: str, folder: str, known: Collection[str]) -> Diagnostic:
    """KI601: no such unit file."""
    close = difflib.get_close_matches(unit, sorted(known), n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return Diagnostic(
        code="KI601",
        summary="Unit not found",
        detail=f"There is no {unit} in {folder}.",
        hint=f"Run `kloros-infra apply` to install the units of models.yaml.{meant}",
        address=unit,
    )


def unit_unusable(unit: str, reason: str, span: Span | None = None) -> Diagnostic:
    """KI603: a unit file that the supervisor cannot run."""
    return Diagnostic(
        code="KI603",
        summary="Unit file cannot be run here",
        detail=reason,
        hint="Run it under systemd, or write it within what docs/decisions/0001-embedded-supervisor.md lists.",
        span=span,
        address=unit,
    )


def unit_failed(unit: str, *, result: str, exit_status: int) -> Diagnostic:
    """KI604: a unit did not start; whoever shows it adds the last lines of the unit's log."""
    status = f", status {exit_status}" if exit_status else ""
    return Diagnostic(
        code="KI604",
        summary="Unit failed",
        detail=f"{unit} failed (result {result}{status}).",
        hint="Its last lines say why: most often a missing file, a port in use or too little memory.",
        address=unit,
    )


def assertion_failed(unit: str, path: str) -> Diagnostic:
    """KI604: a file that the unit cannot do without is missing."""
    return Diagnostic(
        code="KI604",
        summary="Unit failed",
        detail=f"{unit} was not started (result assert): {path} does not exist.",
        hint="Run `kloros-infra apply`, which puts weights and files in place before it starts a unit.",
        address=unit,
    )


def dependency_failed(unit: str, failed: str) -> Diagnostic:
    """KI604: a unit that this one requires did not start."""
    return Diagnostic(
        code="KI604",
        summary="Unit failed",
        detail=f"{unit} was not started (result dependency): it requires {failed}, which failed.",
        hint=f"Mend {failed} first.",
        address=unit,
    )


def job_cancelled(unit: str) -> Diagnostic:
    """KI605: a job was overtaken by another one."""
    return Diagnostic(
        code="KI605",
        summary="Job did not finish",
        detail=f"Starting {unit} was overtaken by a request to stop it.",
        hint="Another command works on the same units: wait for it, then run this one again.",
        address=unit,
    )


def already_running(root: str, pid: str) -> Diagnostic:
    """KI606: a second supervisor on the same root."""
    holder = f" (process {pid})" if pid else ""
    return Diagnostic(
        code="KI606",
        summary="Another supervisor runs this root",
        detail=f"A supervisor{holder} already serves {root}.",
        hint="Commands talk to that one; end it with SIGTERM first if you want to run another.",
    )


def bad_request(reason: str) -> Diagnostic:
    """KI608: a line on the socket that is no request."""
    return Diagnostic(
        code="KI608",
        summary="Supervisor did not understand the request",
        detail=reason,
        hint="Use the same version of kloros-infra for the command and for the supervisor.",
    )


def shutting_down(unit: str) -> Diagnostic:
    """KI605: no start is accepted while everything is being stopped."""
    return Diagnostic(
        code="KI605",
        summary="Job did not finish",
        detail=f"{unit} was not started: the supervisor is shutting down.",
        hint="Run the command again once it has ended.",
        address=unit,
    )
