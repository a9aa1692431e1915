"""`kloros-infra gc`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import manager_option, root_option, yes_option


@click.command("gc")
@root_option
@manager_option
@yes_option
@click.option("--keep", type=click.IntRange(min=1), default=10, show_default=True, help="How many of the newest stay.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would be removed.")
def command(root: Path, manager: str, *, yes: bool, keep: int, is_dry_run: bool) -> None:
    """Remove old generations; never the current one, the last good one, or the one that the machine booted with.

    Weights that no model names any more are `modelctl gc`'s.
    """
    from kloros_infra.cli.history import collect
    from kloros_infra.cli.wiring import target

    collect(target(root, manager), keep, yes=yes, is_dry_run=is_dry_run)
