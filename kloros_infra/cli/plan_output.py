"""Write a plan in the forms that were asked for: to the terminal, as JSON, as Markdown, and as a file for apply."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from kloros_infra import __version__
from kloros_infra.adapters.generated_folder import write_text_atomically
from kloros_infra.cli.planning import Planned
from kloros_infra.cli.table import echo_table
from kloros_infra.planner.explain import explain
from kloros_infra.planner.explain_json import explain_json, json_lines
from kloros_infra.planner.markdown import matrix_markdown, plan_markdown
from kloros_infra.planner.matrix import matrix, matrix_cells, matrix_json
from kloros_infra.planner.saved_plan import SavedPlan, save_plan
from kloros_infra.planner.text_diff import plan_diffs
from kloros_infra.router.profile import select_profile


@dataclass(frozen=True, slots=True)
class PlanForms:
    """What is to be written, beside the exit code."""

    form: str = "text"
    out: Path | None = None
    json_into: Path | None = None
    is_matrix: bool = False
    is_diff: bool = False
    is_drift: bool = False


def write_plan(planned: Planned, forms: PlanForms) -> None:
    """Write a plan in every form that was asked for."""
    if forms.out is not None:
        _save(planned, forms.out)
    as_json = explain_json(planned.made, planned.problems)
    if forms.json_into is not None:
        write_text_atomically(forms.json_into, "".join(f"{line}\n" for line in as_json))
    diffs = plan_diffs(planned.desired, planned.observed) if forms.is_diff else ()
    match forms.form:
        case "json":
            _echo_all(as_json)
        case "markdown":
            text = plan_markdown(planned.made, planned.problems, diffs=diffs, is_drift_shown=forms.is_drift)
            click.echo(text, nl=False)
        case _:
            _echo_all((*_text(planned, forms), *(("", *diffs) if diffs else ())))
            if forms.out is not None:
                click.echo(f"\nSaved. To carry out exactly this: kloros-infra apply {forms.out}")


def _text(planned: Planned, forms: PlanForms) -> Sequence[str]:
    width, color = shutil.get_terminal_size().columns, sys.stdout.isatty()
    return explain(planned.made, planned.problems, width=width, color=color, is_drift_shown=forms.is_drift)


def write_matrix(planned: Planned, forms: PlanForms) -> None:
    """Write what happens under every set of GPUs."""
    if planned.compiled is None:
        raise AssertionError("a plan to destroy has no matrix")
    profiles = planned.compiled.catalog.profiles
    rows = matrix(planned.desired, profiles, lambda present: select_profile(profiles, present)[0])
    as_json = json_lines(map(matrix_json, rows))
    if forms.json_into is not None:
        write_text_atomically(forms.json_into, "".join(f"{line}\n" for line in as_json))
    match forms.form:
        case "json":
            _echo_all(as_json)
        case "markdown":
            click.echo(matrix_markdown(rows), nl=False)
        case _:
            echo_table(matrix_cells(rows))


def _echo_all(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line)


def _save(planned: Planned, file: Path) -> None:
    """Save a plan for its owner alone: it holds the texts of env files."""
    saved = SavedPlan(planned.made, planned.fingerprint, planned.request, __version__)
    write_text_atomically(file, save_plan(saved), mode=0o600)
