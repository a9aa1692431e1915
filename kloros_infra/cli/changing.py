"""What plan, apply and destroy share: make a plan, show it, ask, carry it out."""

from __future__ import annotations

from dataclasses import dataclass

import click

from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.planning import compare
from kloros_infra.cli.terminal import confirm, is_colored, terminal_width
from kloros_infra.cli.wiring import Target, leave, locked_machine, observe_target, stop_supervisor
from kloros_infra.diagnostics import Problems
from kloros_infra.errors import ObstacleError
from kloros_infra.executor.apply import apply
from kloros_infra.executor.machine import Machine
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.explain import explain
from kloros_infra.planner.summary import applied_text


def make_plan(desired: Desired, where: Target) -> tuple[Plan, Problems]:
    """Compare a target with what is desired of it; raise ObstacleError when a foreign file is in the way."""
    return compare(desired, observe_target(desired, where))


def show_plan(made: Plan, warnings: Problems) -> None:
    """Print a plan."""
    for line in explain(made, warnings, width=terminal_width(), color=is_colored()):
        click.echo(line)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a plan is carried out: what is asked before unless `yes`, and how long another apply is waited for."""

    question: str = "Do you want to perform these actions?"
    yes: bool = False
    shows_plan: bool = True
    wait_s: float = 0.0


def carry_out(desired: Desired, where: Target, manner: Manner) -> bool:
    """Plan, show, ask and apply under one lock; say whether anything changed."""
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        return carry_out_locked(desired, where, manner, machine=machine, display=display)


def carry_out_locked(
    desired: Desired, where: Target, manner: Manner, *, machine: Machine, display: ProgressDisplay
) -> bool:
    """Plan, show, ask and apply; the caller holds the lock."""
    made, warnings = make_plan(desired, where)
    if manner.shows_plan:
        show_plan(made, warnings)
    return perform_plan(made, manner, machine=machine, display=display)


def destroy(where: Target, manner: Manner, *, with_weights: bool) -> None:
    """Take everything away under one lock, so that no apply begins between the parts of it."""
    display = ProgressDisplay()
    desired = nothing_desired(where.layout, with_weights=with_weights)
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        carry_out_locked(desired, where, manner, machine=machine, display=display)
        Confirmation(where.root).settle()
        stop_supervisor(where)
        leave(where)


def perform_plan(made: Plan, manner: Manner, *, machine: Machine, display: ProgressDisplay) -> bool:
    """Ask, and carry a plan out; the caller holds the lock."""
    if made.refusals:
        raise ObstacleError(made.refusals)
    if not made.is_empty:
        confirm(manner.question, yes=manner.yes)
    outcome = apply(made, machine)
    display.close()
    if outcome.resumed_after:
        click.echo(f"An earlier apply was interrupted at: {outcome.resumed_after.step}. This one carried it on.")
    if not made.is_empty:
        click.echo(f"\n{applied_text(made)} ({outcome.duration_s:.1f} s)")
    return not made.is_empty
