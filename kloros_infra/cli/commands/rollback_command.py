"""`kloros-infra rollback`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import sys
from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option, wait_option, yes_option


@click.command("rollback")
@click.argument("number", type=click.IntRange(min=1), required=False)
@root_option
@manager_option
@yes_option
@wait_option
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Show the plan only: exit 2 when it has changes, else 0.")
def command(  # noqa: PLR0913 - one parameter for each option, as click calls it
    number: int | None, root: Path, manager: str, *, yes: bool, wait: float, is_dry_run: bool
) -> None:
    """Go back to generation NUMBER, by default the last one that differs from the current one and is whole.

    Needs no models.yaml. Shows the plan and asks, then changes only what differs, like apply, with its exit codes.
    The next apply leads to models.yaml again.
    """
    from kloros_infra.cli.changing import Manner
    from kloros_infra.cli.history import refuse_unknown, roll_back, would_roll_back
    from kloros_infra.cli.wiring import target

    where = target(root, manager)
    refuse_unknown(where, number)
    if is_dry_run:
        sys.exit(2 if would_roll_back(where, number) else 0)
    roll_back(where, number, Manner(yes=yes, wait_s=wait))
