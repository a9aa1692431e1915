"""A report as one JSON document.

Within a version keys are only added; a reader ignores those it does not know.
"""

from __future__ import annotations

import json
from typing import Any

from kloros_infra.cli.reports.report import Report, guide_entry
from kloros_infra.cli.stopwatch import shares
from kloros_infra.diagnostics import Diagnostic

VERSION = 1


def json_report(report: Report) -> str:
    """Write a report as JSON; lines and columns count from 1, columns in characters."""
    document: dict[str, Any] = {
        "version": VERSION,
        "file": report.file,
        "valid": report.is_valid,
        "errors": report.error_count,
        "warnings": report.warning_count,
        "models": report.model_count,
        "instances": report.instance_count,
        "diagnostics": [_diagnostic(problem) for problem in report.problems],
    }
    if report.times:
        document["timings"] = [
            {"station": one.station, "seconds": round(one.seconds, 6), "share": round(share, 4)}
            for one, share in zip(report.times, shares(report.times), strict=True)
        ]
    return json.dumps(document, indent=2)


def _diagnostic(problem: Diagnostic) -> dict[str, Any]:
    span = problem.span
    return {
        "code": problem.code,
        "severity": problem.severity.value,
        "summary": problem.summary,
        "detail": problem.detail,
        "hint": problem.hint,
        "file": span.file if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "address": problem.address,
        "doc": guide_entry(problem),
    }
