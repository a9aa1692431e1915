"""`kloros-infra events`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("events")
@root_option
@manager_option
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object a line instead of text.")
def command(root: Path, manager: str, lines: int, *, as_json: bool) -> None:
    """Show what applies did, step by step, and what the service manager did with the units; the newest last."""
    from kloros_infra.cli.events import event_lines, read_events
    from kloros_infra.cli.wiring import target

    for line in event_lines(read_events(target(root, manager), lines), as_json=as_json):
        click.echo(line)
