"""`modelctl ps`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import root_option


@click.command("ps")
@root_option
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object instead of a table.")
def command(root: Path, *, as_json: bool) -> None:
    """List the instances that hold memory: size, where they are, context, and until when they stay.

    Asks the router. Sizes are what the placements foresee; `modelctl status` says what the cards hold.
    """
    from kloros_infra.cli.runtimes import ps_json, ps_lines
    from kloros_infra.cli.wiring import ManagerChoice, target

    where = target(root, ManagerChoice.AUTO)
    for line in (ps_json(where),) if as_json else ps_lines(where):
        click.echo(line)
