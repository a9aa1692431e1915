"""`kloros-infra logs`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("logs")
@click.argument("name")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@root_option
@manager_option
def command(name: str, lines: int, root: Path, manager: str, *, follow: bool) -> None:
    """Show the last log lines of NAME: a model, an instance such as `code-max`, `router`, `bus`, or a unit."""
    from kloros_infra.cli.unit_logs import log_lines
    from kloros_infra.cli.wiring import target

    try:
        for line in log_lines(target(root, manager), name, lines, is_followed=follow):
            click.echo(line)
    except KeyboardInterrupt:
        # Who follows ends it so.
        if not follow:
            raise
