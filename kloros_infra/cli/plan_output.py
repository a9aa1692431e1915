"""Write a plan in the forms that were asked for: to the terminal, as JSON, as Markdown, and as a file for apply."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from kloros_infra import __version__
from kloros_infra.adapters.output_file import write_output
from kloros_infra.cli.planning import Planned
from kloros_infra.cli.table import echo_table
from kloros_infra.cli.terminal import is_colored, terminal_width
from kloros_infra.diagnostics import Problems
from kloros_infra.planner.explain import explain
from kloros_infra.planner.explain_json import diagnostic_row, explain_json, json_lines
from kloros_infra.planner.markdown import matrix_markdown, plan_markdown
from kloros_infra.planner.matrix import matrix, matrix_cells, matrix_json
from kloros_infra.planner.request import PlanRequest
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

    @property
    def wants_json(self) -> bool:
        return self.form == "json" or self.json_into is not None


def write_plan(planned: Planned, forms: PlanForms) -> None:
    """Write a plan in every form that was asked for."""
    if forms.out is not None:
        save(planned, forms.out)
    if forms.wants_json:
        _write_json(explain_json(planned.made, (*planned.warnings, *planned.problems)), forms)
    diffs = plan_diffs(planned.desired, planned.observed) if forms.is_diff else ()
    match forms.form:
        case "json":
            pass
        case "markdown":
            text = plan_markdown(planned.made, planned.problems, diffs=diffs, is_drift_shown=forms.is_drift)
            click.echo(text, nl=False)
        case _:
            _echo_all((*_text(planned, forms), *(("", *diffs) if diffs else ())))
            if forms.out is not None:
                click.echo(f"\nSaved. To carry out exactly this: kloros-infra apply {shlex.quote(str(forms.out))}")


def write_failure(problems: Problems, forms: PlanForms) -> None:
    """Write why there is no plan, for whoever reads the stream: it has a version and diagnostics in any case."""
    if forms.wants_json:
        _write_json(json_lines(map(diagnostic_row, problems)), forms)


def _write_json(lines: Sequence[str], forms: PlanForms) -> None:
    if forms.form == "json":
        _echo_all(lines)
    if forms.json_into is not None:
        write_output(forms.json_into, "".join(f"{line}\n" for line in lines))


def _text(planned: Planned, forms: PlanForms) -> Sequence[str]:
    return explain(
        planned.made,
        planned.problems,
        width=terminal_width(),
        color=is_colored(),
        is_drift_shown=forms.is_drift,
    )


def write_matrix(planned: Planned, forms: PlanForms) -> None:
    """Write what happens under every set of GPUs."""
    if planned.compiled is None:
        raise AssertionError("a plan to destroy has no matrix")
    profiles = planned.compiled.catalog.profiles
    rows = matrix(planned.desired, profiles, lambda present: select_profile(profiles, present))
    if forms.wants_json:
        warnings = map(diagnostic_row, planned.warnings)
        _write_json(json_lines((*map(matrix_json, rows), *warnings)), forms)
    match forms.form:
        case "json":
            pass
        case "markdown":
            click.echo(matrix_markdown(rows), nl=False)
        case _:
            echo_table(matrix_cells(rows))


def _echo_all(lines: Sequence[str]) -> None:
    if lines:
        # At once: each call writes through to the terminal, and a new machine's plan has thousands of lines.
        click.echo("\n".join(lines))


def save(planned: Planned, file: Path) -> None:
    """Save a plan for its owner alone: it holds the texts of env files."""
    saved = SavedPlan(planned.made, planned.fingerprint, _anywhere(planned.request), __version__)
    write_output(file, save_plan(saved), mode=0o600)


def _anywhere(request: PlanRequest) -> PlanRequest:
    """Name files so that a saved plan can be applied from any folder."""
    file, root = (str(Path(path).expanduser().absolute()) for path in (request.file, request.root))
    return replace(request, file=file, root=root)
