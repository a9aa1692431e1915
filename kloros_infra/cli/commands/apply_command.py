"""`kloros-infra apply`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from kloros_infra.cli.options import (
    DURATION,
    file_option,
    manager_option,
    profile_option,
    root_option,
    wait_option,
    yes_option,
)


@click.command("apply")
@file_option
@root_option
@manager_option
@profile_option
@yes_option
@wait_option
@click.option(
    "--confirm",
    "confirm_s",
    type=DURATION,
    metavar="TIME",
    help="Undo everything unless `kloros-infra confirm` is run within this time, such as 60s.",
)
@click.option("--reset-pins", is_flag=True, help="Start units again that were stopped by hand.")
def command(  # noqa: PLR0913 - one argument for each option
    file: Path,
    root: Path,
    manager: str,
    profile: str | None,
    *,
    yes: bool,
    wait: float,
    confirm_s: float | None,
    reset_pins: bool,
) -> None:
    """Make the machine (or --root) match models.yaml.

    Shows the plan and asks, then writes, starts, restarts and stops only what differs, and waits until each started
    model answers. When a step fails, everything is undone. Exit code 0: done, 1: an error, and nothing was changed,
    3: failed and rolled back, 4: failed, and something is not as it should be, 5: another apply is running.
    """
    from kloros_infra.cli.changing import Manner, carry_out
    from kloros_infra.cli.confirming import carry_out_unless_confirmed, refuse_while_waiting
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.wiring import compile_project, desired_for, provenance_of, target

    project = read_project(file)
    where = target(root, manager)
    compiled = compile_project(project, where.layout)
    show_problems(compiled.warnings, project.sources)
    desired = desired_for(compiled, where, profile, provenance=provenance_of(project))
    desired = replace(desired, resets_pins=reset_pins)
    refuse_while_waiting(where)
    manner = Manner("Do you want to perform these actions?", yes=yes, wait_s=wait)
    if confirm_s is None:
        carry_out(desired, where, manner)
    else:
        carry_out_unless_confirmed(desired, where, manner, within_s=confirm_s)
