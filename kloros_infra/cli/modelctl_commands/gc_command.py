"""`modelctl gc`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option, manager_option, root_option, yes_option


@click.command("gc")
@click.option(
    "--keep",
    type=click.IntRange(1, 1000),
    metavar="COUNT",
    help="How many versions of each model stay; else storage.keep_versions of models.yaml.",
)
@click.option("--forget", "is_forgetful", is_flag=True, help="Take old versions out of models.yaml too.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Show what would go, and leave it.")
@file_option
@root_option
@manager_option
@yes_option
def command(  # noqa: PLR0913 - one parameter for each option, as click calls it
    keep: int | None, *, is_forgetful: bool, is_dry_run: bool, file: Path, root: Path, manager: str, yes: bool
) -> None:
    """Remove weights from the store: versions that models.yaml does not name, and old ones.

    The current version of a model stays, the newest ones stay, and so does every version that a unit of a generation
    loads, so that it can be gone back to: `kloros-infra gc` removes old generations.
    """
    from kloros_infra.cli.collecting import CollectOptions, collect
    from kloros_infra.cli.wiring import target

    collect(file, CollectOptions(keep, is_dry_run, is_forgetful, yes), target(root, manager))
