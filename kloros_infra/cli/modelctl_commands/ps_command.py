"""`modelctl ps`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import root_option


@click.command("ps")
@root_option
def command(root: Path) -> None:
    """List the instances that hold memory: size, where they are, context, and until when they stay.

    Asks the router. Sizes are what the placements foresee; `modelctl status` says what the cards hold.
    """
    from kloros_infra.cli.runtimes import ps_lines
    from kloros_infra.cli.wiring import ManagerChoice, target

    for line in ps_lines(target(root, ManagerChoice.AUTO)):
        click.echo(line)
