"""A report as SARIF 2.1.0, which code scanning of forges and editors read.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html; section numbers below are that document's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from kloros_infra import __version__
from kloros_infra.cli.excerpt import line_at
from kloros_infra.cli.reports.report import Report, guide_entry
from kloros_infra.diagnostics import Diagnostic, Span

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif_report(report: Report) -> str:
    """Write a report as a SARIF log of one run."""
    rules = {problem.code: _rule(problem) for problem in sorted(report.problems, key=lambda one: one.code)}
    indices = {code: index for index, code in enumerate(rules)}
    run = {
        "tool": {"driver": {"name": "kloros-infra", "version": __version__, "rules": list(rules.values())}},
        "columnKind": "utf16CodeUnits",
        "results": [_result(problem, indices[problem.code], report) for problem in report.problems],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(problem: Diagnostic) -> dict[str, Any]:
    entry = guide_entry(problem)
    return {
        "id": problem.code,
        "shortDescription": {"text": _literal(problem.summary)},
        "fullDescription": {"text": _literal(problem.summary)},
        "help": {"text": f"What it means, why, and how to mend it: {entry} in the documentation of kloros-infra."},
        "defaultConfiguration": {"level": problem.severity.value},
    }


def _result(problem: Diagnostic, rule_index: int, report: Report) -> dict[str, Any]:
    return {
        "ruleId": problem.code,
        "ruleIndex": rule_index,
        "level": problem.severity.value,
        "message": {"text": _literal("\n".join(filter(None, (problem.detail, problem.hint))))},
        "locations": [_location(problem, report)],
    }


def _location(problem: Diagnostic, report: Report) -> dict[str, Any]:
    """Point into a file; what has no place in a text is a matter of the whole project's file."""
    span = problem.span
    physical: dict[str, Any] = {"artifactLocation": {"uri": file_uri(span.file if span else report.file)}}
    if span:
        physical["region"] = {"startLine": span.line, "startColumn": utf16_column(span, report.sources)}
    location: dict[str, Any] = {"physicalLocation": physical}
    if problem.address:
        location["logicalLocations"] = [{"fullyQualifiedName": problem.address}]
    return location


def file_uri(file: str) -> str:
    """Write a file's name as a URI reference (RFC 3986); a relative one stays relative, as forges want it."""
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="surrogateescape")


def utf16_column(span: Span, sources: Mapping[str, str]) -> int:
    """Count a column in UTF-16 code units, the unit of most editors: 3.14.17."""
    line = line_at(sources.get(span.file, ""), span.line) or ""
    before = line[: span.column - 1]
    return span.column + len(before.encode("utf-16-le", "surrogatepass")) // 2 - len(before)


def _literal(text: str) -> str:
    """Write text in which braces stand for themselves and not for an argument: 3.11.5."""
    return text.replace("{", "{{").replace("}", "}}")
