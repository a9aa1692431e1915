"""`kloros-infra status`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option, manager_option, profile_option, root_option


@click.command("status")
@file_option
@root_option
@manager_option
@profile_option
def command(file: Path, root: Path, manager: str, profile: str | None) -> None:
    """Show each unit of an installation: its state, its process, and whether it answers."""
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.status import status_lines
    from kloros_infra.cli.wiring import compile_project, target

    where = target(root, manager)
    compiled = compile_project(read_project(file), where.layout)
    for line in status_lines(compiled.catalog, where, profile):
        click.echo(line)
