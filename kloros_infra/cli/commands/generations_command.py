"""`kloros-infra generations`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("generations")
@root_option
@manager_option
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object a line instead of a table.")
def command(root: Path, manager: str, *, as_json: bool) -> None:
    """List the generations that this machine keeps: when each was made, from which commit, and what it changed."""
    from kloros_infra.cli.generation_list import list_generations
    from kloros_infra.cli.wiring import target

    list_generations(target(root, manager), as_json=as_json)
