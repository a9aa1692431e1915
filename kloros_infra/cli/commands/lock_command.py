"""`kloros-infra lock`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import sys
from pathlib import Path

import click

from kloros_infra.cli.options import file_option


@click.command("lock")
@file_option
@click.option("--upgrade", "upgraded", metavar="MODEL", multiple=True, help="Move this model to the newest commit.")
@click.option("--refresh", is_flag=True, help="Read everything again, also what the lock has already.")
@click.option("--check", is_flag=True, help="Write and ask nothing; exit 1 if the lock does not fit models.yaml.")
def command(file: Path, *, upgraded: tuple[str, ...], refresh: bool, check: bool) -> None:
    """Pin each model's weights: revision, size, sha256, and the facts in their GGUF headers.

    Writes models.lock.yaml and models.lock/ beside models.yaml; commit both. compile and plan read nothing else.
    Weights on Hugging Face stay at the commit that the lock pins, whatever happens to the branch, until they are
    upgraded; packages and local files are pinned as they are on this machine. A version that cannot be reached keeps
    its entry, or, where it names its `architecture` and `quantization`, gets a derived one, which can be planned but
    not applied. Models with `placement: overrider` are asked for at the external gguf-tensor-overrider, where that was
    not done yet; its answers are kept in models.lock/overrider/.
    """
    from kloros_infra.cli.locking import check_project, lock_project
    from kloros_infra.cli.overriding import check_answers, record_answers
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.render import show_problems
    from kloros_infra.diagnostics import has_errors
    from kloros_infra.errors import ProblemsError

    if check and (upgraded or refresh):
        raise click.UsageError("--check reads nothing: it goes neither with --upgrade nor with --refresh.")
    project = read_project(file)
    if check:
        lock, problems = check_project(project)
        problems = (*problems, *check_answers(project))
        if has_errors(problems):
            raise ProblemsError(problems)
        outcome = "fits"
    else:
        lock, problems, written = lock_project(project, upgraded=upgraded, is_refresh=refresh)
        recorded = record_answers(read_project(file), is_refresh=refresh)
        problems = (*problems, *recorded.problems)
        asked = f", the overrider asked {recorded.asked} times" if recorded.asked else ""
        outcome = f"{written + recorded.changed} files changed{asked}"
    show_problems(problems, project.sources)
    pinned = sum(not entry.is_derived for entry in lock.weights.values())
    derived = len(lock.weights) - pinned
    click.echo(f"{project.lock_file}: {pinned} pinned, {derived} derived, {outcome}.")
    if has_errors(problems):
        sys.exit(1)
