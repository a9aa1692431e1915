"""`kloros-infra show`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json
from pathlib import Path

import click

from kloros_infra.cli.options import file_option
from kloros_infra.cli.render import show_problems


@click.command("show")
@click.argument("what", required=False, metavar="[MODEL|PATH]")
@file_option
@click.option("--resolved", is_flag=True, help="Settle every setting: what is inherited, and what is standard.")
@click.option("--json", "as_json", is_flag=True, help="Values by JSON Pointer, with file, line, column and origin.")
def command(what: str | None, file: Path, *, resolved: bool, as_json: bool) -> None:
    """Show models.yaml with all that it includes as one file, and where each value comes from.

    The output is a models.yaml that means the same. MODEL is an id, name or alias; PATH is such as
    models.code.profiles.max or bridge.ports: only that part is shown.
    """
    from kloros_infra.cli.project import read_project
    from kloros_infra.compiler.parse import parse
    from kloros_infra.compiler.resolved_view import resolved_view, written_view
    from kloros_infra.compiler.view_text import find_value, view_data, view_lines
    from kloros_infra.errors import ProblemsError

    project = read_project(file)
    parsed, problems = parse(project.text, file=str(project.file), parts=project.parts)
    if parsed is None:
        raise ProblemsError(problems)
    show_problems(problems, project.sources)
    view = resolved_view(parsed.source) if resolved else written_view(parsed.source)
    address, problems = find_value(view.tree, what or "")
    if address is None:
        raise ProblemsError(problems)
    if as_json:
        click.echo(json.dumps(view_data(view, parsed.source, address), indent=2, ensure_ascii=False))
        return
    for line in view_lines(view, address):
        click.echo(line)
