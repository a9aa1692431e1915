"""Have systemd itself read unit files before they are installed: systemd-analyze(1), which needs no running systemd.

`verify` ends with 0 on unknown keys and on values that it ignores, unless it is told not to (`--recursive-errors=no`),
and it writes all of what it finds to stderr. `security` names the units of its scores in its table only, not in JSON.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic, Problems, Severity, Span, in_order
from kloros_infra.ir.exposure import Exposure

PROGRAM = "systemd-analyze"
TIMEOUT_S = 120.0
SHOWN_CAUSES = 5

# "/path/a.service:12: text", and "a.service: text" for what is no single line's fault.
_AT_LINE = re.compile(r"(?P<file>/.+?):(?P<line>\d+): (?P<text>.+)")
_OF_UNIT = re.compile(r"(?:Unit )?(?P<unit>[^\s:/]+\.[a-z]+):? (?P<text>.+)")
# Follows the message that says what is wrong.
_ECHO = re.compile(r"has a bad unit file setting|Failed to load unit file")
_NOT_THERE = re.compile(r"Command (?P<program>\S+) is not executable: No such file or directory")
_CAUSE = re.compile(r"✗ (?P<name>\S+) .* (?P<score>\d+\.\d+)")
_SCORE = re.compile(r"Overall exposure level for (?P<unit>\S+): (?P<score>\d+\.\d+)")


class SystemdAnalyze:
    """Checks unit files wherever they lie; units that refer to each other are given together."""

    def verify(self, units: Collection[Path], *, coming: Collection[str] = ()) -> Problems:
        """Say what systemd finds wrong with unit files.

        Programs in `coming` will be in place before any of these units is started.
        """
        if not units:
            return ()
        try:
            done = _run("verify", "--recursive-errors=no", "--man=no", *map(str, sorted(units)))
        except (OSError, subprocess.TimeoutExpired) as error:
            return (units_not_checked(error),)
        found = in_order(_findings(done.stderr.splitlines(), units, coming=frozenset(coming)))
        if done.returncode != 0 and not found and not _is_explained(done.stderr, coming):
            return (units_not_checked(done.stderr.strip() or f"it ended with {done.returncode}"),)
        return found

    def security(self, units: Collection[Path]) -> tuple[Mapping[str, Exposure], Problems]:
        """Score services, all in one call; other units have no score."""
        services = {unit.name: str(unit) for unit in sorted(units) if unit.suffix == ".service"}
        if not services:
            return {}, ()
        try:
            done = _run("security", "--offline=true", "--no-pager", *services.values())
        except (OSError, subprocess.TimeoutExpired) as error:
            return {}, (units_not_checked(error),)
        found = dict(_exposures(done.stdout.splitlines()))
        # What cannot be loaded has no score; a file that is not there ends the whole call.
        missing = services.keys() - found.keys()
        return found, (units_not_checked(f"it has no score for {', '.join(sorted(missing))}"),) if missing else ()


def check_exposure(exposures: Mapping[str, Exposure], *, limit: float) -> Problems:
    """Say which services are exposed more than the limit allows."""
    return tuple(
        unit_too_exposed(unit, exposure, limit)
        for unit, exposure in sorted(exposures.items())
        if exposure.score > limit
    )


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    # Words and marks of messages depend on the locale.
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_LEVEL": "info"}
    return subprocess.run(
        (PROGRAM, *words),
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=TIMEOUT_S,
    )


def _findings(lines: Collection[str], units: Collection[Path], *, coming: frozenset[str]) -> Iterator[Diagnostic]:
    """Read messages about these units; of others, which they refer to, nothing is ours to mend."""
    files = {str(unit): unit.name for unit in units}
    names = frozenset(files.values())
    for line in lines:
        if found := _AT_LINE.fullmatch(line):
            if found["file"] in files:
                span = Span(found["file"], int(found["line"]), 1)
                yield unit_not_accepted(files[found["file"]], found["text"], span)
        elif (found := _OF_UNIT.fullmatch(line)) and found["unit"] in names and not _ECHO.search(found["text"]):
            missing = _NOT_THERE.fullmatch(found["text"])
            if missing is None or missing["program"] not in coming:
                yield unit_not_accepted(found["unit"], found["text"], None)


def _is_explained(messages: str, coming: Collection[str]) -> bool:
    """Say whether programs that are still to come are all that is missing."""
    missing = {found["program"] for found in _NOT_THERE.finditer(messages)}
    return bool(missing) and missing.issubset(coming)


def _exposures(lines: Collection[str]) -> Iterator[tuple[str, Exposure]]:
    """Read one table after the other; each ends with its unit's score."""
    causes: list[tuple[str, float]] = []
    for line in lines:
        if found := _CAUSE.fullmatch(line.rstrip()):
            causes.append((found["name"].rstrip("="), float(found["score"])))
        elif found := _SCORE.search(line):
            worst_first = sorted(causes, key=lambda cause: (-cause[1], cause[0]))
            yield found["unit"], Exposure(float(found["score"]), tuple(worst_first[:SHOWN_CAUSES]))
            causes = []


def unit_not_accepted(unit: str, text: str, span: Span | None) -> Diagnostic:
    """KI580: systemd does not take a unit file as it is."""
    return Diagnostic(
        code="KI580",
        summary="Unit file not accepted",
        detail=f"systemd says of {unit}: {text.rstrip('.')}.",
        hint="See `sandbox` and `arguments` in models.yaml; a key that only a newer systemd knows is a fault of ours.",
        span=span,
        address=unit,
    )


def units_not_checked(reason: object) -> Diagnostic:
    """KI581: systemd-analyze cannot be asked."""
    return Diagnostic(
        code="KI581",
        summary="Unit files not checked",
        detail=f"systemd-analyze could not check the unit files: {reason}.",
        hint="Install systemd 250 or newer on the machine that applies, or go without this check.",
        severity=Severity.WARNING,
        address="systemd-analyze",
    )


def unit_too_exposed(unit: str, exposure: Exposure, limit: float) -> Diagnostic:
    """KI582: a service can reach more of the machine than allowed."""
    causes = ", ".join(f"{name} ({score})" for name, score in exposure.causes)
    return Diagnostic(
        code="KI582",
        summary="Service too exposed",
        detail=f"systemd scores {unit} {exposure.score}, and {limit} is allowed. Most is due to {causes}.",
        hint="Take back what `relax` in models.yaml leaves out; if it is meant, raise `sandbox.security_threshold`.",
        address=unit,
    )
