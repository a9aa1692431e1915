"""`modelctl`: models and their instances, in the words that ollama's users know."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra import __version__
from kloros_infra.cli.commands import logs_command, status_command
from kloros_infra.cli.modelctl_commands import (
    bench_command,
    gc_command,
    promote_command,
    ps_command,
    pull_command,
    rollback_command,
    start_command,
    stop_command,
)
from kloros_infra.cli.options import file_option, manager_option, profile_option, root_option
from kloros_infra.cli.program import run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="modelctl")
def modelctl() -> None:
    """Look at models, their versions and their running instances; fetch, promote and remove versions."""


@modelctl.command("list")
@file_option
@root_option
@manager_option
@profile_option
def list_models(file: Path, root: Path, manager: str, profile: str | None) -> None:
    """List every model: version, size, profile and whether it runs."""
    from kloros_infra.cli.model_views import list_rows
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.table import echo_table
    from kloros_infra.cli.wiring import compile_project, target

    where = target(root, manager)
    compiled = compile_project(read_project(file), where.layout)
    echo_table(list_rows(compiled, where, profile))


@modelctl.command()
@click.argument("model")
@file_option
@root_option
@manager_option
def show(model: str, file: Path, root: Path, manager: str) -> None:
    """Show one model: what it is for, its weights, and where each profile places it."""
    from kloros_infra.cli.model_views import show_lines
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.wiring import compile_project, target

    where = target(root, manager)
    compiled = compile_project(read_project(file), where.layout)
    for line in show_lines(compiled, model):
        click.echo(line)


modelctl.add_command(status_command.command, "status")
modelctl.add_command(logs_command.command, "logs")
for module in (ps_command, start_command, stop_command):
    modelctl.add_command(module.command)
for module in (pull_command, promote_command, rollback_command, gc_command, bench_command):
    modelctl.add_command(module.command)


def main() -> None:
    """Run `modelctl`."""
    run(modelctl, "modelctl")
