"""`kloros-infra recover`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option, wait_option, yes_option


@click.command("recover")
@root_option
@manager_option
@yes_option
@wait_option
def command(root: Path, manager: str, *, yes: bool, wait: float) -> None:
    """Bring the machine back to order after an apply that was killed.

    An apply that had switched to its new generation is completed, one that had not is undone. When the current
    generation does not start, the last good one is gone to, and the exit code is 4.
    """
    from kloros_infra.cli.changing import Manner
    from kloros_infra.cli.history import recover
    from kloros_infra.cli.wiring import target

    recover(target(root, manager), Manner(yes=yes, wait_s=wait))
