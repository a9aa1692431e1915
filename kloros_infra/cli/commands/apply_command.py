"""`kloros-infra apply`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from kloros_infra.cli.options import (
    DURATION,
    detected_option,
    file_option,
    host_option,
    manager_option,
    profile_option,
    root_option,
    wait_option,
    yes_option,
)

PLANNING = ("file", "root", "manager", "profile", "host", "only", "replaced", "reset_pins", "detected")


@click.command("apply")
@click.argument("saved", required=False, metavar="[PLAN]", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@file_option
@root_option
@manager_option
@profile_option
@host_option
@detected_option
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
    model answers. When a step fails, or Ctrl-C interrupts, everything is undone. Exit code 0: done, 1: an error, and
    nothing was changed, 3: failed or interrupted, and rolled back, 4: failed, and something is not as it should be,
    5: another apply is running, 6: the saved plan is stale.
    """
    if saved is None:
        apply_project(options)
        return
    from kloros_infra.cli.changing import Manner
    from kloros_infra.cli.saved_plans import carry_out_saved

    given = click.get_current_context().get_parameter_source
    if any(given(name) not in (None, ParameterSource.DEFAULT) for name in PLANNING):
        raise click.UsageError(
            "A saved plan is carried out as it is, for the models.yaml and the root that it was made for: no other"
            " option of planning goes with it."
        )
    carry_out_saved(saved, Manner(yes=True, wait_s=options["wait"]), within_s=options["confirm_s"])


def apply_project(options: Mapping[str, Any]) -> None:
    """Plan anew and carry that out."""
    from kloros_infra.cli.applying import apply_request
    from kloros_infra.cli.changing import Manner
    from kloros_infra.planner.request import PlanRequest

    if options["host"] and options["profile"]:
        raise click.UsageError(
            "--host and --profile contradict each other: a host that lends its cards has no profile."
        )
    if options["host"] and options["detected"]:
        raise click.UsageError("--host and --detected contradict each other: this machine's cards are not that host's.")
    request = PlanRequest(
        file=str(options["file"]),
        root=str(options["root"]),
        manager=options["manager"],
        profile=options["profile"],
        host=options["host"],
        only=options["only"],
        replaced=options["replaced"],
        resets_pins=options["reset_pins"],
        is_detected=options["detected"],
    )
    manner = Manner(yes=options["yes"], wait_s=options["wait"])
    apply_request(request, manner, within_s=options["confirm_s"])
