"""`kloros-infra plan`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import sys
from pathlib import Path

import click

from kloros_infra.cli.options import file_option, manager_option, profile_option, root_option


@click.command("plan")
@file_option
@root_option
@manager_option
@profile_option
@click.option("--detailed-exitcode", is_flag=True, help="Exit 0: no changes, 1: error, 2: changes.")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object a line instead of text.")
def command(  # noqa: PLR0913 - one argument for each option
    file: Path, root: Path, manager: str, profile: str | None, *, detailed_exitcode: bool, as_json: bool
) -> None:
    """Show what apply would change on the machine (or below --root). Changes nothing; needs no root rights."""
    from kloros_infra.cli.changing import make_plan, show_plan
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.wiring import compile_project, desired_for, target
    from kloros_infra.planner.explain_json import explain_json

    project = read_project(file)
    where = target(root, manager)
    compiled = compile_project(project, where.layout)
    made, warnings = make_plan(desired_for(compiled, where, profile), where)
    show_problems(compiled.warnings, project.sources)
    if as_json:
        for line in explain_json(made, warnings):
            click.echo(line)
    else:
        show_plan(made, warnings)
    sys.exit(2 if detailed_exitcode and not made.is_empty else 0)
