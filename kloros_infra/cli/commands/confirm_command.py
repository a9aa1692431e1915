"""`kloros-infra confirm`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("confirm")
@root_option
@manager_option
def command(root: Path, manager: str) -> None:
    """Keep what `apply --confirm` did; without this it is undone when its time is over."""
    from kloros_infra.cli.confirming import confirm_apply
    from kloros_infra.cli.wiring import target

    confirm_apply(target(root, manager))
