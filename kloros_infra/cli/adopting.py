"""Take over files that are not ours and stand in the way: they count as installed by us from then on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import click

from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.terminal import confirm
from kloros_infra.cli.wiring import Target, locked_machine, observe_target
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import digest, foreign_paths

QUESTION = "Do you want to take them over? The next apply replaces or removes them, and destroy removes them."


def adopt(desired: Desired, where: Target, asked: Collection[str], *, yes: bool) -> None:
    """Remember foreign files as ours, as they are now; raise ProblemsError for paths at which none stands."""
    with locked_machine(where, ProgressDisplay()) as machine:
        observed = observe_target(desired, where)
        foreign = foreign_paths(desired, observed)
        paths = {path: relative(path, where) for path in asked}
        problems = tuple(not_in_the_way(path, foreign) for path, inner in paths.items() if inner not in foreign)
        if problems:
            raise ProblemsError(problems)
        for path in sorted(paths.values()):
            click.echo(f"/{path}")
        confirm(QUESTION, yes=yes)
        taken = {path: digest(observed.files[path]) for path in paths.values()}
        record = machine.files.installed()
        machine.files.record_installed(replace(record, digests={**record.digests, **taken}))
    click.echo(f"{len(taken)} taken over. `kloros-infra plan` shows what apply makes of them.")


def relative(path: str, where: Target) -> str:
    """Name a path below the root, given from the root or from the machine's."""
    prefix = where.layout.prefix
    return path.removeprefix(f"{prefix}/" if prefix and path.startswith(f"{prefix}/") else "/")


def not_in_the_way(path: str, foreign: tuple[str, ...]) -> Diagnostic:
    """Report a path that needs no taking over."""
    known = [f"/{one}" for one in foreign]
    return Diagnostic(
        code="KI583",
        summary="No foreign file there",
        detail=f"{path} is not in the way of an apply: it is ours, not there, or nothing that models.yaml asks for.",
        hint=suggest(path, known) if known else "Nothing is in the way; `kloros-infra plan` shows what apply would do.",
    )
