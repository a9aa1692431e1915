"""`kloros-infra lock`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option


@click.command("lock")
@file_option
@click.option("--refresh", is_flag=True, help="Read everything again, also what the lock has already.")
def command(file: Path, *, refresh: bool) -> None:
    """Pin each model's weights: revision, size, sha256, and the facts in their GGUF headers.

    Writes models.lock.yaml and models.lock/ beside models.yaml; commit both. compile and plan read nothing else. A
    version that cannot be reached keeps its entry, or, where it names its `architecture` and `quantization`, gets a
    derived one, which can be planned but not applied.
    """
    from kloros_infra.cli.locking import lock_project
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.render import show_problems

    project = read_project(file)
    lock, warnings, written = lock_project(project, refresh=refresh)
    show_problems(warnings, project.sources)
    pinned = sum(not entry.is_derived for entry in lock.weights.values())
    derived = len(lock.weights) - pinned
    click.echo(f"{project.lock_file}: {pinned} pinned, {derived} derived, {written} files changed.")
