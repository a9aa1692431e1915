"""`kloros-infra validate`."""

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option
from kloros_infra.cli.render import show_problems


@click.command("validate")
@file_option
def command(file: Path) -> None:
    """Check models.yaml and its lock as compile does; say everything that is wrong at once."""
    from kloros_infra.cli.project import read_project  # noqa: PLC0415 - start-up time
    from kloros_infra.cli.wiring import compile_project  # noqa: PLC0415 - start-up time

    project = read_project(file)
    compiled = compile_project(project)
    show_problems(compiled.warnings, project.sources)
    models, instances = len(compiled.catalog.models), len(compiled.catalog.instances)
    click.echo(f"{file}: valid. {models} models, {instances} instances.")
