"""`kloros-infra compile`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kloros_infra.cli.options import detected_option, file_option, no_cache_option
from kloros_infra.cli.render import show_problems


@click.command("compile")
@file_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write; `generated` beside models.yaml by default.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the output differs from what is there.")
@detected_option
@no_cache_option
def command(file: Path, output: Path | None, check: bool, detected: bool, no_cache: bool) -> None:
    """Write generated/: units, env files and the routing table, as they will lie on the target.

    What other hosts get that lend their cards is below hosts/NAME.
    """
    from kloros_infra.adapters.generated_folder import differences, update_folder  # noqa: PLC0415 - start-up time
    from kloros_infra.cli.project import read_project  # noqa: PLC0415 - start-up time
    from kloros_infra.cli.wiring import compile_project  # noqa: PLC0415 - start-up time
    from kloros_infra.compiler.emit_rpc import with_parts  # noqa: PLC0415 - start-up time

    project = read_project(file)
    compiled = compile_project(project, is_cached=not no_cache, is_detected=detected)
    show_problems(compiled.warnings, project.sources)
    tree = with_parts(compiled.tree, compiled.parts)
    folder = output or file.parent / "generated"
    if check:
        stale = differences(folder, tree)
        for path in stale:
            click.echo(f"differs: {folder / path}")
        sys.exit(1 if stale else 0)
    changed = update_folder(folder, tree)
    click.echo(f"{folder}: {len(tree)} files, {len(changed)} changed.")
