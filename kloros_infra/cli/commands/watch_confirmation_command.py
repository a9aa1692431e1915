"""`kloros-infra watch_confirmation`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("watch_confirmation")
@root_option
@manager_option
def command(root: Path, manager: str) -> None:
    """Undo an apply that is not confirmed in time; `apply --confirm` starts this."""
    from kloros_infra.cli.confirming import watch
    from kloros_infra.cli.wiring import target

    watch(target(root, manager))
