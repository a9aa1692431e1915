"""Compile a project and write what runs under one profile for another program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

import click

from kloros_infra.adapters.output_file import write_output
from kloros_infra.cli.project import read_project
from kloros_infra.cli.render import show_problems
from kloros_infra.cli.wiring import Target, compile_project, profile_named
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.ir.layout import Layout
from kloros_infra.migration.export_litellm import export_litellm
from kloros_infra.migration.export_llama_presets import export_llama_presets
from kloros_infra.migration.export_llama_swap import export_llama_swap
from kloros_infra.migration.exported import Export, Exported, exported
from kloros_infra.migration.problems import nothing_to_export


class Format(StrEnum):
    """Whose configuration is written."""

    LLAMA_SWAP = "llama-swap"
    LLAMA_PRESETS = "llama-presets"
    LITELLM = "litellm"


WRITERS: Mapping[Format, Callable[[Exported], Export]] = {
    Format.LLAMA_SWAP: export_llama_swap,
    Format.LLAMA_PRESETS: export_llama_presets,
    Format.LITELLM: export_litellm,
}


def export_project(file: Path, where: Target, profile: str | None, form: Format) -> Export:
    """Compile a project and translate what runs under a profile, the best one by default."""
    project = read_project(file)
    compiled = compile_project(project, where.layout)
    show_problems(compiled.warnings, project.sources)
    profiles = compiled.catalog.profiles
    name = profile_named(compiled.catalog, profile) if profile else profiles[0].name
    variables = {
        str(instance.id): parse_environment_file(_env_text(compiled, where.layout, str(instance.written_as)))
        for instance in compiled.catalog.instances
    }
    found = exported(compiled, variables, profile=name, layout=where.layout)
    if not found.instances:
        raise ProblemsError([nothing_to_export(name)])
    return WRITERS[form](found)


def _env_text(compiled: Compiled, layout: Layout, instance: str) -> str:
    """Find an instance's env file, which says how it starts; its name ends in a digest of its text."""
    pattern = re.compile(rf"{re.escape(f'{layout.env}/{instance}')}\.[0-9a-f]{{8}}\.env")
    return next(
        artifact.text
        for path, artifact in compiled.tree.items()
        if isinstance(artifact, TextFile) and pattern.fullmatch(path)
    )


def write_export(export: Export, output: Path | None) -> None:
    """Write an export to a file or standard output, and what it cannot say to standard error."""
    if output is None:
        click.echo(export.text, nl=False)
    else:
        write_output(output, export.text)
    if export.notes:
        click.echo("What this format cannot say:", err=True)
    for note in export.notes:
        click.echo(f"  {note}", err=True)
