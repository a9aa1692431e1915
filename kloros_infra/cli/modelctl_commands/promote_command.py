"""`modelctl promote`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option


@click.command("promote")
@click.argument("model")
@click.option("--to", "version", metavar="VERSION", required=True, help="The version that becomes the current one.")
@file_option
def command(model: str, version: str, file: Path) -> None:
    """Make a version of MODEL the current one in models.yaml; apply installs it."""
    from kloros_infra.cli.versions import make_current

    make_current(file, model, version)
