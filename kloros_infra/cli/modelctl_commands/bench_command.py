"""`modelctl bench`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option


@click.command("bench")
@click.argument("instance")
@file_option
@click.option(
    "--depth",
    "depths",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="TOKENS",
    help="Read prompts of this length; by default 512 tokens and half the context, up to 4096. Repeatable.",
)
@click.option("--write", is_flag=True, help="Write what was found into models.yaml, to be reviewed and applied.")
def command(instance: str, file: Path, depths: tuple[int, ...], *, write: bool) -> None:
    """Measure how fast INSTANCE (such as code-max), which must run, reads prompts and generates.

    Its speed is held against what is foreseen of its cards; the factors between the two make later placements better.
    Nobody else should use its cards meanwhile.
    """
    from kloros_infra.cli.benching import bench, bench_lines, write_factors
    from kloros_infra.cli.placements import read_view

    view = read_view(file)
    found = bench(view, instance, depths)
    for line in bench_lines(view, found):
        click.echo(line)
    if write:
        write_factors(file, view, found)
