"""`kloros-infra export`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option, root_option


@click.command("export")
@click.argument("form", metavar="FORMAT", type=click.Choice(["llama-swap", "llama-presets", "litellm"]))
@file_option
@click.option("--profile", metavar="NAME", help="What runs under this profile; by default under the best one.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write; else to stdout.")
@root_option
def command(form: str, file: Path, profile: str | None, output: Path | None, root: Path) -> None:
    """Write what runs here as a configuration of llama-swap, llama-server's presets, or LiteLLM.

    Weights are named where apply puts them. What the other format cannot say is listed on standard error.
    """
    from kloros_infra.cli.exporting import Format, export_project, write_export
    from kloros_infra.cli.wiring import ManagerChoice, target

    where = target(root, ManagerChoice.AUTO.value)
    write_export(export_project(file, where, profile, Format(form)), output)
