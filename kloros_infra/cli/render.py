"""Turn diagnostics into text: place, excerpt with a caret, reason and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from kloros_infra.cli.excerpt import excerpt, line_at
from kloros_infra.diagnostics import Diagnostic, Severity

COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}
MANY = 10
"""More problems than fit on a screen: a table says how many there are of each code."""
SHOWN_IN_FULL = 200
"""Of more problems than anyone reads in one go, the rest is one line each."""


def diagnostic_lines(problem: Diagnostic, sources: Mapping[str, str]) -> tuple[str, ...]:
    """Write one problem as lines; `sources` holds the texts that spans point into."""
    head = f"{_place_and_code(problem)} {click.style(problem.summary, bold=True)}"
    body = (*excerpt_lines(problem, sources), f"  {problem.detail}")
    hint = (f"  {click.style('help:', fg='cyan')} {problem.hint}",) if problem.hint else ()
    return (head, *body, *hint)


def one_line(problem: Diagnostic) -> str:
    """Write one problem in short."""
    return f"{_place_and_code(problem)} {problem.detail.partition(chr(10))[0]}"


def _place_and_code(problem: Diagnostic) -> str:
    place = f"{problem.span}: " if problem.span else f"{problem.address}: " if problem.address else ""
    return place + click.style(f"{problem.severity} {problem.code}", fg=COLORS[problem.severity], bold=True)


def excerpt_lines(problem: Diagnostic, sources: Mapping[str, str]) -> tuple[str, ...]:
    """Show the line a problem is on and a caret under its column, where the text is at hand."""
    span = problem.span
    line = line_at(sources[span.file], span.line) if span and span.file in sources else None
    if span is None or line is None:
        return ()
    shown = excerpt(line, span.column)
    gutter = f"{span.line:>5} | "
    caret = " " * (len(gutter) - 2) + "| " + " " * shown.caret + click.style("^", fg="green", bold=True)
    return (gutter + shown.text, caret)


def show_problems(problems: Iterable[Diagnostic], sources: Mapping[str, str]) -> None:
    """Write problems to standard error, and how many there were of each kind."""
    shown = tuple(problems)
    for problem in shown[:SHOWN_IN_FULL]:
        click.echo("\n".join(diagnostic_lines(problem, sources)), err=True)
        click.echo(err=True)
    rest = shown[SHOWN_IN_FULL:]
    if rest:
        click.echo("\n".join((*map(one_line, rest), "")), err=True)
    for line in count_lines(shown):
        click.echo(line, err=True)


def count_lines(problems: Sequence[Diagnostic]) -> tuple[str, ...]:
    """Say how many problems there are; where they are many, also of which code, the most frequent first."""
    errors = sum(problem.is_error for problem in problems)
    warnings = len(problems) - errors
    counts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    if not counts:
        return ()
    of_code = Counter((problem.code, problem.summary) for problem in problems)
    rows = sorted(of_code.items(), key=lambda row: (-row[1], row[0]))
    table = [f"{count:>5}  {code} {summary}" for (code, summary), count in rows] if len(problems) > MANY else []
    return (" and ".join(counts), *table)


def texts_at(problems: Iterable[Diagnostic]) -> dict[str, str]:
    """Read the files that problems point into, for excerpts; those that are gone have none."""
    files = {problem.span.file for problem in problems if problem.span}
    return {name: Path(name).read_text(errors="replace") for name in sorted(files) if Path(name).is_file()}
