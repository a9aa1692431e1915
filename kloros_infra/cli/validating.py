"""Check a project in one run, and make a report of it."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.cli.project import read_project
from kloros_infra.cli.render import texts_at
from kloros_infra.cli.reports.report import Report
from kloros_infra.cli.stopwatch import Stopwatch
from kloros_infra.cli.wiring import compiler_sources
from kloros_infra.compiler.check_options import asks_llama_server, check_options, options_not_checked
from kloros_infra.compiler.hardware import local_hosts
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.stations import check_project
from kloros_infra.diagnostics import Problems, in_order
from kloros_infra.errors import ObstacleError, ProblemsError

READ = "read"
LLAMA_SERVER = "llama-server"
"""Stations beside those of the compiler: what they ask is outside."""


def validate(file: Path, *, is_timed: bool) -> Report:
    """Read and check a project; a file that cannot be read is one more problem."""
    watch = Stopwatch()
    watch.begin(READ)
    try:
        project = read_project(file)
    except ProblemsError as error:
        problems = in_order(error.problems)
        return Report(str(file), problems, texts_at(problems), times=watch.times() if is_timed else ())
    checked = check_project(compiler_sources(project), watch.begin)
    watch.begin(LLAMA_SERVER)
    problems = in_order((*checked.problems, *ask_llama_server(checked.parsed)))
    times = watch.times() if is_timed else ()
    report = Report(str(file), problems, project.sources, times=times)
    if not report.is_valid or checked.catalog is None:
        return report
    models, instances = len(checked.catalog.models), len(checked.catalog.instances)
    return Report(str(file), problems, project.sources, models, instances, times)


def ask_llama_server(parsed: Parsed | None) -> Problems:
    """Hold options and chat templates to the installed llama-server, where the file has any that only it knows."""
    if parsed is None or not asks_llama_server(parsed):
        return ()
    hosts = local_hosts(parsed.config)
    if len(hosts) != 1:
        return ()
    from kloros_infra.adapters.llama_server_help import server_options  # noqa: PLC0415 - most files need it not

    try:
        return check_options(parsed, server_options(parsed.config.hosts[hosts[0]].llama_server))
    except ObstacleError as error:
        return options_not_checked(parsed, error.problems[0].detail)
