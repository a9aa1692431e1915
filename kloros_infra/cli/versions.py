"""Which version of a model is current: `modelctl promote` and `modelctl rollback`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import click

from kloros_infra.cli.editing import change_models_file, show_changes
from kloros_infra.cli.project import read_project
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.parse_lock import parse_entries
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.editing.edits import Edit, SetValue, model_at
from kloros_infra.editing.versions import check_version, find_model, version_before
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.lock import weights_key

Value = TypeVar("Value")

DEFAULT_FILE = Path("models.yaml")


def make_current(file: Path, asked: str, version: str | None) -> None:
    """Make a version of a model the current one, or the one before it where none is named; say what changed."""
    made: list[tuple[ModelSpec, str]] = []

    def edits(parsed: Parsed) -> Sequence[Edit]:
        model = found(find_model(parsed.config, asked))
        chosen = chosen_version(model, version)
        made.append((model, chosen))
        if chosen == model.version_in_use:
            return ()
        return (SetValue((*model_at(model.id), "current_version"), chosen),)

    changes = change_models_file(file, edits)
    model, chosen = made[-1]
    if not changes:
        click.echo(f"{model.id} is at {chosen} already. Nothing was changed.")
        return
    show_changes(changes)
    click.echo(f"\n{model.id}: {model.version_in_use or 'no version'} -> {chosen}. {next_step(file, model.id, chosen)}")


def chosen_version(model: ModelSpec, version: str | None) -> str:
    """Settle the version that was asked for; raise ProblemsError where there is none."""
    if version is None:
        return found(version_before(model))
    problem = check_version(model, version)
    if problem is not None:
        raise ProblemsError([problem])
    return version


def next_step(file: Path, model_id: str, version_id: str) -> str:
    """Say what to run after an edit."""
    project = read_project(file)
    lock = parse_entries(project.lock_text or "", project.headers, file=str(project.lock_file))[0]
    is_locked = lock is not None and weights_key(model_id, version_id) in lock.lock.weights
    option = "" if file == DEFAULT_FILE else f" --file {shlex.quote(str(file))}"
    first = "" if is_locked else f"`kloros-infra lock{option}`, then "
    return f"See what it would change with {first}`kloros-infra plan{option}`."


def found(result: Value | Diagnostic) -> Value:
    """Give a value; raise ProblemsError where there is a problem in its place."""
    if isinstance(result, Diagnostic):
        raise ProblemsError([result])
    return result
