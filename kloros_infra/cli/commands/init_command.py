"""`kloros-infra init`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command("init")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("models.yaml"),
    show_default=True,
    help="Where to write.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--print", "is_printed", is_flag=True, help="Write to standard output instead.")
def command(output: Path, *, force: bool, is_printed: bool) -> None:
    """Write a commented models.yaml for this machine: its GPUs, its llama-server, and a small model to begin with.

    Looks and asks, and changes nothing but that file: no download, no service.
    """
    from kloros_infra.adapters.new_file import write_new_file
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.starting import look_around
    from kloros_infra.starting.text import first_models_yaml

    facts, problems = look_around()
    text = first_models_yaml(facts)
    show_problems(problems, {})
    if is_printed:
        click.echo(text, nl=False)
        return
    write_new_file(output, text, replace=force)
    click.echo(f"{output}: written. Read it, then:")
    where = "" if output == Path("models.yaml") else f" --file {shlex.quote(str(output))}"
    click.echo(f"  kloros-infra lock{where}     # pin the model: revision, size, sha256")
    click.echo(f"  kloros-infra plan{where}     # see what apply would do")
