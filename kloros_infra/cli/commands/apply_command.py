"""`kloros-infra apply`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kloros_infra.cli.options import (
    DURATION,
    file_option,
    host_option,
    manager_option,
    profile_option,
    root_option,
    wait_option,
    yes_option,
)

PLANNING = ("profile", "host", "only", "replaced", "reset_pins", "confirm_s")


@click.command("apply")
@click.argument("saved", required=False, metavar="[PLAN]", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@file_option
@root_option
@manager_option
@profile_option
@host_option
@yes_option
@wait_option
@click.option("--only", multiple=True, metavar="NAME", help="Apply only this instance or model. Repeatable.")
@click.option("--replace", "replaced", multiple=True, metavar="NAME", help="Restart it although nothing differs.")
@click.option(
    "--confirm",
    "confirm_s",
    type=DURATION,
    metavar="TIME",
    help="Undo everything unless `kloros-infra confirm` is run within this time, such as 60s.",
)
@click.option("--reset-pins", is_flag=True, help="Start units again that were stopped by hand.")
def command(saved: Path | None, **options: Any) -> None:
    """Make the machine (or --root) match models.yaml, or carry out exactly a PLAN that `plan --out` saved.

    Shows the plan and asks, then writes, starts, restarts and stops only what differs, and waits until each started
    model answers. When a step fails, everything is undone. Exit code 0: done, 1: an error, and nothing was changed,
    3: failed and rolled back, 4: failed, and something is not as it should be, 5: another apply is running, 6: the
    saved plan is stale.
    """
    if saved is None:
        apply_project(options)
        return
    from kloros_infra.cli.changing import Manner
    from kloros_infra.cli.saved_plans import carry_out_saved

    if any(options[name] for name in PLANNING):
        raise click.UsageError("A saved plan is carried out as it is: no other option of planning goes with it.")
    carry_out_saved(saved, Manner(yes=True, wait_s=options["wait"]))


def apply_project(options: Mapping[str, Any]) -> None:
    """Plan anew and carry that out."""
    from kloros_infra.cli.changing import Manner, carry_out
    from kloros_infra.cli.confirming import carry_out_unless_confirmed, refuse_while_waiting
    from kloros_infra.cli.planning import choice
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.wiring import compile_project, desired_for, desired_for_part, provenance_of, target

    if options["host"] and options["profile"]:
        raise click.UsageError(
            "--host and --profile contradict each other: a host that lends its cards has no profile."
        )
    project = read_project(options["file"])
    where = target(options["root"], options["manager"])
    compiled = compile_project(project, where.layout)
    show_problems(compiled.warnings, project.sources)
    provenance = provenance_of(project)
    desired = (
        desired_for_part(compiled, where, options["host"], provenance=provenance)
        if options["host"]
        else desired_for(compiled, where, options["profile"], provenance=provenance)
    )
    desired = replace(desired, resets_pins=options["reset_pins"])
    refuse_while_waiting(where)
    manner = Manner(
        "Do you want to perform these actions?",
        yes=options["yes"],
        wait_s=options["wait"],
        choose=choice(options["only"], options["replaced"], compiled.catalog),
    )
    if options["confirm_s"] is None:
        carry_out(desired, where, manner)
    else:
        carry_out_unless_confirmed(desired, where, manner, within_s=options["confirm_s"])
