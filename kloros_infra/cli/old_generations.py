"""`kloros-infra gc`: remove generations that nobody goes back to."""

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.cli.locking import parse_project
from kloros_infra.cli.project import read_project
from kloros_infra.cli.terminal import confirm
from kloros_infra.cli.wiring import Target, generations_of
from kloros_infra.planner.generation_changes import outdated, uncommitted


def keep_by_models_file(file: Path) -> int:
    """Say how many generations a models.yaml wants kept; raise ProblemsError where it is wrong."""
    return parse_project(read_project(file))[0].config.storage.keep_generations


def collect(where: Target, keep: int, *, yes: bool, is_dry_run: bool) -> None:
    """Remove generations beyond the newest `keep`, never a marked one, nor one that an apply needs.

    It may have been staging one, or go back to one unless it is confirmed.
    """
    with apply_lock(where.root):
        history, waiting = generations_of(where).history(), Confirmation(where.root).read()
        staged = uncommitted(RootedFiles(where.root, where.layout).installed(), history)
        needed = (staged, None if waiting is None else waiting.previous)
        going = tuple(number for number in outdated(history, keep) if number not in needed)
        if not going:
            click.echo("There is nothing to remove.")
            return
        click.echo(f"Generations to remove: {', '.join(map(str, going))}.")
        if is_dry_run:
            return
        confirm("Remove them? There is no going back to them afterwards.", yes=yes)
        for number in going:
            generations_of(where).remove(number)
        click.echo(f"{len(going)} removed.")
