"""`kloros-infra adopt`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.options import file_option, manager_option, profile_option, root_option, yes_option


@click.command("adopt")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@file_option
@root_option
@manager_option
@profile_option
@yes_option
def command(  # noqa: PLR0913 - one argument for each option
    paths: tuple[str, ...], file: Path, root: Path, manager: str, profile: str | None, *, yes: bool
) -> None:
    """Take over files that stand where apply would write, and that it did not put there.

    They are left as they are: plan then shows what will become of them, and apply does it.
    """
    from kloros_infra.cli.adopting import adopt
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.wiring import compile_project, desired_for, target

    where = target(root, manager)
    compiled = compile_project(read_project(file), where.layout)
    adopt(desired_for(compiled, where, profile), where, paths, yes=yes)
