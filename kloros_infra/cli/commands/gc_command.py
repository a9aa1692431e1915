"""`kloros-infra gc`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option, manager_option, root_option, yes_option


@click.command("gc")
@file_option
@root_option
@manager_option
@yes_option
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="How many of the newest stay; else storage.keep_generations of models.yaml.",
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would be removed.")
def command(  # noqa: PLR0913 - one parameter for each option, as click calls it
    keep: int | None, *, file: Path, root: Path, manager: str, yes: bool, is_dry_run: bool
) -> None:
    """Remove old generations; with --keep, no models.yaml is needed.

    The current one stays, the last good one, the one that the machine booted with, and the one that an apply goes back
    to unless it is confirmed. Weights that no generation names any more are `modelctl gc`'s.
    """
    from kloros_infra.cli.old_generations import collect, keep_by_models_file
    from kloros_infra.cli.wiring import target

    kept = keep_by_models_file(file) if keep is None else keep
    collect(target(root, manager), kept, yes=yes, is_dry_run=is_dry_run)
