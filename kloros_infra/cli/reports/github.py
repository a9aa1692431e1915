"""A report as GitHub's workflow commands, which become annotations beside the lines of a pull request.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands; the escapes are those of GitHub's own
toolkit (actions/toolkit, packages/core/src/command.ts).
"""

from __future__ import annotations

from kloros_infra.cli.reports.report import Report
from kloros_infra.diagnostics import Diagnostic

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def github_report(report: Report) -> str:
    """Write a report as one command a line; nothing where nothing was found."""
    return "\n".join(_command(problem, report) for problem in report.problems)


def _command(problem: Diagnostic, report: Report) -> str:
    span = problem.span
    place = {"file": span.file, "line": span.line, "col": span.column} if span else {"file": report.file}
    properties = {**place, "title": f"{problem.code} {problem.summary}"}
    written = ",".join(f"{name}={_escaped(str(value), _PROPERTY)}" for name, value in properties.items())
    # `error` and `warning` are words of both.
    return f"::{problem.severity.value} {written}::{_escaped(_message(problem), _DATA)}"


def _message(problem: Diagnostic) -> str:
    return "\n".join(filter(None, (problem.detail, problem.hint and f"help: {problem.hint}")))


def _escaped(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)
