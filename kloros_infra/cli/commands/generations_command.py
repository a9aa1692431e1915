"""`kloros-infra generations`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option


@click.command("generations")
@root_option
@manager_option
def command(root: Path, manager: str) -> None:
    """List the generations that this machine keeps: when each was made, from which commit, and what it changed."""
    from kloros_infra.cli.history import list_generations
    from kloros_infra.cli.wiring import target

    list_generations(target(root, manager))
