"""`kloros-infra status`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("status")
@root_option
@manager_option
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object instead of a table.")
def command(root: Path, manager: str, *, as_json: bool) -> None:
    """Show what the current generation runs: state, GPU memory, context, requests, and what went wrong last.

    Needs no models.yaml. Memory is what the cards say, or, marked by ~, what the placement foresees. Says as well when
    an apply was interrupted.
    """
    from kloros_infra.cli.status_output import status_json, status_lines
    from kloros_infra.cli.unit_status import read_status
    from kloros_infra.cli.wiring import target

    status = read_status(target(root, manager))
    for line in (status_json(status),) if as_json else status_lines(status):
        click.echo(line)
