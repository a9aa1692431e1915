"""What plan, apply and destroy share: make a plan, show it, ask, carry it out."""

from __future__ import annotations

import shutil
import sys

import click

from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.wiring import Target, locked_machine, observe_target
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.errors import ObstacleError
from kloros_infra.executor.apply import apply
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.explain import applied_text, explain


def make_plan(desired: Desired, where: Target) -> tuple[Plan, Problems]:
    """Compare a target with what is desired of it; raise ObstacleError when a foreign file is in the way."""
    made, problems = plan(desired, observe_target(desired, where))
    if has_errors(problems):
        raise ObstacleError(problems)
    return made, problems


def show_plan(made: Plan, warnings: Problems) -> None:
    """Print a plan."""
    width = shutil.get_terminal_size().columns
    for line in explain(made, warnings, width=width, color=sys.stdout.isatty()):
        click.echo(line)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before acting, as only `yes` may answer; end the command on anything else."""
    if yes:
        return
    answer = click.prompt(f"\n{question}\n  Only 'yes' will be accepted", default="", show_default=False)
    if answer != "yes":
        raise click.ClickException("Cancelled. Nothing was changed.")


def carry_out(desired: Desired, where: Target, *, question: str, yes: bool, shows_plan: bool = True) -> bool:
    """Plan, show, ask and apply under one lock; say whether anything changed."""
    display = ProgressDisplay()
    with locked_machine(where, display) as machine:
        made, warnings = make_plan(desired, where)
        if shows_plan:
            show_plan(made, warnings)
        if made.refusals:
            raise ObstacleError(made.refusals)
        if not made.is_empty:
            confirm(question, yes=yes)
        outcome = apply(made, machine)
        display.close()
    if outcome.resumed_after:
        click.echo(f"An earlier apply was interrupted at: {outcome.resumed_after}. This one carried it on.")
    if not made.is_empty:
        click.echo(f"\n{applied_text(made)} ({outcome.duration_s:.1f} s)")
    return not made.is_empty
