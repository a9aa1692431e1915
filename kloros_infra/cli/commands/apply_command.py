"""`kloros-infra apply`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option, manager_option, profile_option, root_option, yes_option


@click.command("apply")
@file_option
@root_option
@manager_option
@profile_option
@yes_option
def command(file: Path, root: Path, manager: str, profile: str | None, *, yes: bool) -> None:
    """Make the machine (or --root) match models.yaml.

    Shows the plan and asks, then writes, starts, restarts and stops only what differs, and waits until each started
    model answers. When a step fails, everything is undone. Exit code 0: done, 1: nothing changed by an error,
    5: another apply is running.
    """
    from kloros_infra.cli.changing import carry_out
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.wiring import compile_project, desired_for, target

    project = read_project(file)
    where = target(root, manager)
    compiled = compile_project(project, where.layout)
    show_problems(compiled.warnings, project.sources)
    desired = desired_for(compiled, where, profile)
    carry_out(desired, where, question="Do you want to perform these actions?", yes=yes)
