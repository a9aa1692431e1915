"""Turn diagnostics into text: place, excerpt with a caret, reason and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from kloros_infra.diagnostics import Diagnostic, Severity

COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def diagnostic_lines(problem: Diagnostic, sources: Mapping[str, str]) -> tuple[str, ...]:
    """Write one problem as lines; `sources` holds the texts that spans point into."""
    place = f"{problem.span}: " if problem.span else f"{problem.address}: " if problem.address else ""
    label = click.style(f"{problem.severity} {problem.code}", fg=COLORS[problem.severity], bold=True)
    head = f"{place}{label} {click.style(problem.summary, bold=True)}"
    body = (*excerpt_lines(problem, sources), f"  {problem.detail}")
    hint = (f"  {click.style('help:', fg='cyan')} {problem.hint}",) if problem.hint else ()
    return (head, *body, *hint)


def excerpt_lines(problem: Diagnostic, sources: Mapping[str, str]) -> tuple[str, ...]:
    """Show the line a problem is on and a caret under its column, where the text is at hand."""
    span = problem.span
    lines = sources.get(span.file, "").splitlines() if span else []
    if span is None or not 1 <= span.line <= len(lines):
        return ()
    gutter = f"{span.line:>5} | "
    caret = " " * (len(gutter) - 2) + "| " + " " * (span.column - 1) + click.style("^", fg="green", bold=True)
    return (gutter + lines[span.line - 1], caret)


def show_problems(problems: Iterable[Diagnostic], sources: Mapping[str, str]) -> None:
    """Write problems to standard error, and how many there were of each kind."""
    shown = tuple(problems)
    for problem in shown:
        click.echo("\n".join(diagnostic_lines(problem, sources)), err=True)
        click.echo(err=True)
    errors = sum(problem.is_error for problem in shown)
    warnings = len(shown) - errors
    counts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    if counts:
        click.echo(" and ".join(counts), err=True)
