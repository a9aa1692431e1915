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
@click.option("--json", "is_json", is_flag=True, help="One versioned JSON object a line instead of text.")
def command(  # noqa: PLR0913 - one parameter for each option, as click calls it
    before: int | None, after: int | None, root: Path, manager: str, *, is_text: bool, is_json: bool
) -> None:
    """Show what differs between two generations, from N to M.

    Without M it is the current one; without N the last one before M that differs from it and is whole. Changes nothing.
    """
    from kloros_infra.cli.generation_pair import Form, difference_lines
    from kloros_infra.cli.wiring import target

    if is_text and is_json:
        raise click.UsageError("--text and --json contradict each other: standard output holds one of them.")
    form = Form.TEXT if is_text else Form.JSON if is_json else Form.BLOCKS
    for line in difference_lines(target(root, manager), before, after, form):
        click.echo(line)
