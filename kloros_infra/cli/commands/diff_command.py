"""`kloros-infra diff`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("diff")
@click.argument("before", type=click.IntRange(min=1), required=False, metavar="[N]")
@click.argument("after", type=click.IntRange(min=1), required=False, metavar="[M]")
@root_option
@manager_option
@click.option("--text", "is_text", is_flag=True, help="Unified diffs of the files instead of changes by unit.")
def command(before: int | None, after: int | None, root: Path, manager: str, *, is_text: bool) -> None:
    """Show what differs between two generations, from N to M.

    Without M it is the current one; without N the one before the current one. Changes nothing.
    """
    from kloros_infra.cli.generation_pair import difference_lines
    from kloros_infra.cli.wiring import target

    for line in difference_lines(target(root, manager), before, after, is_text=is_text):
        click.echo(line)
