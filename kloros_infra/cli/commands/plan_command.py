"""`kloros-infra plan`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kloros_infra.cli.options import (
    detected_option,
    file_option,
    host_option,
    manager_option,
    no_cache_option,
    profile_option,
    root_option,
)

OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)


class WrongUseError(click.UsageError):
    """A command line that cannot be understood."""

    exit_code = 1


class PlanCommand(click.Command):
    """A command whose exit code 2 means changes, so that a wrong option must not end with it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line as usual; end with 1 when it is wrong."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise WrongUseError(error.format_message(), error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; options that contradict each other are found there."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise WrongUseError(error.format_message(), error.ctx) from error


@click.command("plan", cls=PlanCommand)
@file_option
@root_option
@manager_option
@profile_option
@host_option
@detected_option
@click.option("--out", type=OUTPUT_FILE, metavar="FILE", help="Save the plan: `apply FILE` carries out exactly it.")
@click.option("--json", "is_json", is_flag=True, help="One versioned JSON object a line instead of text.")
@click.option("--markdown", "is_markdown", is_flag=True, help="Markdown for a pull request instead of text.")
@click.option("--json-into", type=OUTPUT_FILE, metavar="FILE", help="Write the JSON lines to a file as well.")
@click.option("--only", multiple=True, metavar="NAME", help="Plan only this instance or model. Repeatable.")
@click.option("--replace", "replaced", multiple=True, metavar="NAME", help="Restart it although nothing differs.")
@click.option("--reset-pins", is_flag=True, help="Start units again that were stopped by hand.")
@click.option("--destroy", "is_destroy", is_flag=True, help="Show what `destroy` would remove.")
@click.option("--with-weights", is_flag=True, help="With --destroy: the weights as well.")
@click.option("--if", "supposed", multiple=True, metavar="gpu=NAME:absent", help="Suppose a GPU is absent, or present.")
@click.option("--matrix", "is_matrix", is_flag=True, help="Show what runs under every set of GPUs; compares nothing.")
@click.option("--diff", "is_diff", is_flag=True, help="Show how each file differs as well.")
@click.option("--drift", "is_drift", is_flag=True, help="Show harmless differences on the machine in full.")
@no_cache_option
@click.option("--detailed-exitcode", is_flag=True, hidden=True, help="What it asks for is always so.")
def command(**options: Any) -> None:
    """Show what apply would change on the machine (or below --root). Changes nothing; needs no root rights.

    Exit code 0: there is nothing to do, 2: there are changes, 1: error.
    """
    from kloros_infra.cli.plan_options import read_options
    from kloros_infra.cli.plan_output import write_failure, write_matrix, write_plan
    from kloros_infra.cli.planning import make_planned, with_apply_at_work
    from kloros_infra.cli.render import show_problems
    from kloros_infra.errors import KlorosError

    request, forms = read_options(options)
    try:
        planned = with_apply_at_work(make_planned(request, is_cached=not options["no_cache"]))
    except KlorosError as error:
        write_failure(error.problems, forms)
        raise
    if planned.project is not None:
        show_problems(planned.warnings, planned.project.sources)
    if forms.is_matrix:
        write_matrix(planned, forms)
        return
    write_plan(planned, forms)
    sys.exit(0 if planned.made.is_empty else 2)
