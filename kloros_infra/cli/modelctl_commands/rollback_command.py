"""`modelctl rollback`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option


@click.command("rollback")
@click.argument("model")
@click.option("--to", "version", metavar="VERSION", help="The version to go back to; else the one before the current.")
@file_option
def command(model: str, version: str | None, file: Path) -> None:
    """Go back to an earlier version of MODEL in models.yaml; apply installs it."""
    from kloros_infra.cli.versions import make_current

    make_current(file, model, version)
