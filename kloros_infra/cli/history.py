"""Generations on the command line: go back to one, finish or undo what was interrupted."""

from __future__ import annotations

from dataclasses import replace

import click

from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.cli.changing import Manner, carry_out_locked, make_plan, show_plan
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.wiring import Target, generations_of, locked_machine, noted_profile
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError, LeftBehindError, ObstacleError, StepFailedError
from kloros_infra.executor.generations import former_generation, not_there, read_generation
from kloros_infra.executor.machine import Machine
from kloros_infra.ir.artifact import text_of
from kloros_infra.ir.generation import History, Interrupted
from kloros_infra.ir.observed import Installed
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.generation_changes import desired_of, profile_at
from kloros_infra.planner.obstacles import foreign_current, former_table
from kloros_infra.planner.text_keys import json_keys


def desired_at(where: Target, number: int | None) -> Desired:
    """Say what the machine looks like at a generation, None being without us; raise ObstacleError when it is damaged.

    The profile that is active stays so, where the generation has it: which cards are there is no matter of history.
    """
    if number is None:
        return nothing_desired(where.layout)
    generation = read_generation(generations_of(where), number)
    return desired_of(generation, where.layout, profile_at(generation.manifest, noted_profile(where)))


def roll_back(where: Target, number: int | None, manner: Manner) -> None:
    """Go to a generation, by default the last one that differs from the current one; show the plan and ask first."""
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        goal = number or _previous(where)
        click.echo(f"Going to generation {goal}.")
        carry_out_locked(_gone_back_to(where, goal), where, manner, machine=machine, display=display)
        # Who goes elsewhere reaches the machine, and wants no other generation.
        Confirmation(where.root).settle()


def would_roll_back(where: Target, number: int | None) -> bool:
    """Show the plan of going to a generation, and change nothing; say whether anything differs."""
    goal = number or _previous(where)
    click.echo(f"Going to generation {goal} would do this.")
    made, warnings = make_plan(_gone_back_to(where, goal), where)
    show_plan(made, warnings)
    return not made.is_empty


def _gone_back_to(where: Target, number: int) -> Desired:
    """Say what a generation is like; what another release made is refused, as the router could not serve by it."""
    from kloros_infra.ir.routing import SCHEMA_VERSION  # noqa: PLC0415 - start-up time

    desired = desired_at(where, number)
    keys = json_keys(text_of(desired.tree.get(where.layout.routing))) or {}
    found = keys.get("version")
    if found in (None, str(SCHEMA_VERSION)):
        return desired
    return replace(desired, refusals=(*desired.refusals, former_table(number, found, SCHEMA_VERSION)))


def _previous(where: Target) -> int:
    generations = generations_of(where)
    history = generations.history()
    # Without a current one, all are earlier.
    newest = max(history.numbers, default=0) + 1 if history.current is None else history.current
    earlier = former_generation(generations, newest)
    if earlier is None:
        raise ObstacleError([_nothing_to_go_back_to(history)])
    return earlier


def recover(where: Target, manner: Manner) -> None:
    """Bring the machine to the generation that is current, or to the last good one when that one is at fault.

    What was not confirmed in time, and could not be undone as the machine was down, is undone instead: while the lock
    is held here, an apply that has not ended was killed.
    """
    display, confirmation = ProgressDisplay(), Confirmation(where.root)
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        waiting = confirmation.read()
        if waiting is not None and waiting.is_due:
            click.echo("The last apply was not confirmed in time.")
            fell_back = _reach(waiting.previous, where, manner, machine, display)
            confirmation.settle()
        else:
            history, interrupted = machine.generations.history(), machine.journal.unfinished()
            _refuse_former_installation(machine.files.installed(), history, where)
            _tell_interruption(interrupted, history)
            goal = _to_bring_back(history, machine.files.installed(), interrupted, where)
            fell_back = _reach(goal, where, manner, machine, display)
    if fell_back is not None:
        raise fell_back


def _to_bring_back(
    history: History, installed: Installed, interrupted: Interrupted | None, where: Target
) -> int | None:
    """Choose the generation, None being a machine without us; raise ObstacleError where that cannot be told.

    That none is current is right where none was made yet, and where an apply was killed on its way to the first or from
    the last. Otherwise somebody took the link away.
    """
    if history.is_current_foreign:
        raise ObstacleError([foreign_current(where.layout)])
    is_bare = not history.numbers and not installed.digests
    is_first_or_last = interrupted is not None and interrupted.is_first_or_last
    if history.current is not None or is_bare or is_first_or_last:
        return history.current
    if history.last_good not in history.numbers:
        raise ObstacleError([_none_is_current(history)])
    click.echo(f"The link to the current generation is gone; going to {history.last_good}, the last good one.")
    return history.last_good


def _reach(
    goal: int | None, where: Target, manner: Manner, machine: Machine, display: ProgressDisplay
) -> LeftBehindError | None:
    """Go to a generation, or to the last good one where that one is at fault; give what is to be told then."""
    error = _go_to(goal, where, manner, machine, display)
    if error is None:
        return None
    fallback = machine.generations.history().last_good
    if fallback in (None, goal):
        raise error
    click.echo(f"Generation {goal} cannot be used; going to {fallback}, the last good one.")
    again = _go_to(fallback, where, manner, machine, display)
    if again is not None:
        raise again
    return LeftBehindError((*error.problems, _fell_back(goal, fallback)))


def _go_to(
    goal: int | None, where: Target, manner: Manner, machine: Machine, display: ProgressDisplay
) -> KlorosError | None:
    """Go to a generation; give the error where the generation is at fault, and raise any other.

    A busy port, a full disk or an interruption would keep the machine from any generation.
    """
    try:
        desired = desired_at(where, goal)
    except ObstacleError as error:
        return error
    try:
        carry_out_locked(desired, where, manner, machine=machine, display=display)
    except StepFailedError as error:
        if not error.is_of_units:
            raise
        return error
    return None


def _tell_interruption(interrupted: Interrupted | None, history: History) -> None:
    if interrupted is None:
        click.echo("No apply was interrupted.")
        return
    side = "had made its generation current" if history.current == interrupted.goal else "had not switched yet"
    click.echo(f"An apply was interrupted at: {interrupted.step} ({interrupted.at}). It {side}.")


def _refuse_former_installation(installed: Installed, history: History, where: Target) -> None:
    """What was installed before there were generations has no manifest to go back to."""
    former = f"{where.layout.former_units}/"
    if history.current is None and any(path.startswith(former) for path in installed.digests):
        raise ObstacleError([_no_generation_yet()])


def refuse_unknown(where: Target, number: int | None) -> None:
    """Say early that a generation is not there."""
    numbers = generations_of(where).history().numbers
    if number is not None and number not in numbers:
        raise ObstacleError([not_there(number, numbers)])


def _nothing_to_go_back_to(history: History) -> Diagnostic:
    return Diagnostic(
        code="KI591",
        summary="Nothing to go back to",
        detail=f"No generation older than {history.current or 'this machine'} is kept.",
        hint="Change models.yaml in Git and apply; `kloros-infra generations` lists what is kept.",
    )


def _fell_back(current: int | None, fallback: int | None) -> Diagnostic:
    return Diagnostic(
        code="KI592",
        summary="Went to the last good generation",
        detail=f"Generation {current} is damaged or did not start, so generation {fallback} is current now.",
        hint="Mend what the message above names, then apply.",
    )


def _none_is_current(history: History) -> Diagnostic:
    kept = ", ".join(map(str, history.numbers)) or "none"
    return Diagnostic(
        code="KI564",
        summary="No generation is current",
        detail=f"The link to the current generation is gone, and no generation is marked as good; kept are {kept}.",
        hint="Choose one with `kloros-infra rollback N`, or apply, which makes a new one from models.yaml. Where a "
        "destroy was interrupted, run it again.",
    )


def _no_generation_yet() -> Diagnostic:
    return Diagnostic(
        code="KI589",
        summary="No generation to recover",
        detail="The interrupted apply was the first to make a generation of an installation without any.",
        hint="Run `kloros-infra apply`: it carries on from what is there.",
    )
