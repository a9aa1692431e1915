"""`kloros-infra validate`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kloros_infra.cli.options import file_option

if TYPE_CHECKING:
    from kloros_infra.cli.reports.report import Report


@click.command("validate")
@file_option
@click.option("--json", "form", flag_value="json", help="Write one JSON document.")
@click.option("--sarif", "form", flag_value="sarif", help="Write SARIF 2.1.0, for code scanning and editors.")
@click.option("--github", "form", flag_value="github", help="Write GitHub workflow commands, for annotations.")
@click.option("--timings", is_flag=True, help="Say how long each station took, on standard error and in --json.")
@click.option("--strict", is_flag=True, help="Exit 1 for warnings too.")
def command(file: Path, form: str | None, *, timings: bool, strict: bool) -> None:
    """Check models.yaml and its lock as compile does; say everything that is wrong at once.

    Needs no GPU, no llama-server and no systemd. Exit code 0: valid, 1: not.
    """
    from kloros_infra.cli.stopwatch import time_lines
    from kloros_infra.cli.validating import validate

    report = validate(file, is_timed=timings)
    writers[form or "text"](report)
    if timings:
        for line in time_lines(report.times):
            click.echo(line, err=True)
    sys.exit(0 if report.is_valid and not (strict and report.problems) else 1)


def write_text(report: Report) -> None:
    """Show problems on standard error, and the good news on standard output."""
    from kloros_infra.cli.render import show_problems

    show_problems(report.problems, report.sources)
    if report.is_valid:
        click.echo(f"{report.file}: valid. {report.model_count} models, {report.instance_count} instances.")


def write_json(report: Report) -> None:
    """Write the JSON document."""
    from kloros_infra.cli.reports.json_report import json_report

    click.echo(json_report(report))


def write_sarif(report: Report) -> None:
    """Write the SARIF log."""
    from kloros_infra.cli.reports.sarif import sarif_report

    click.echo(sarif_report(report))


def write_github(report: Report) -> None:
    """Write workflow commands, if there is anything to annotate."""
    from kloros_infra.cli.reports.github import github_report

    commands = github_report(report)
    if commands:
        click.echo(commands)


writers: dict[str, Callable[[Report], None]] = {
    "text": write_text,
    "json": write_json,
    "sarif": write_sarif,
    "github": write_github,
}
