"""Generations on the command line: list them, go back to one, finish or undo what was interrupted, remove old ones."""

from __future__ import annotations

import click

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.cli.changing import Manner, carry_out_locked, confirm
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.table import echo_table
from kloros_infra.cli.wiring import Target, generations_of, journal_of, locked_machine, observe_target
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError, LeftBehindError, ObstacleError
from kloros_infra.executor.generations import manifest_at, not_there, read_generation
from kloros_infra.executor.machine import Machine
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.generation import History, Manifest
from kloros_infra.ir.observed import Installed
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.generation_changes import desired_of, outdated, profile_at, uncommitted
from kloros_infra.planner.generation_text import what_differs

QUESTION = "Do you want to perform these actions?"


def desired_at(where: Target, number: int | None) -> Desired:
    """Say what the machine looks like at a generation, None being without us; raise ObstacleError when it is damaged.

    The profile that is active stays so, where the generation has it: which cards are there is no matter of history.
    """
    if number is None:
        return nothing_desired(where.layout)
    generation = read_generation(generations_of(where), number)
    found = RootedFiles(where.root, where.layout).read(where.layout.profile_file)
    active = found.text.strip() if isinstance(found, TextFile) else None
    return desired_of(generation, where.layout, profile_at(generation.manifest, active))


def roll_back(where: Target, number: int | None, manner: Manner) -> None:
    """Go to a generation, by default the one before the current one; show the plan and ask first."""
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        goal = number or _previous(machine.generations.history())
        click.echo(f"Going to generation {goal}.")
        carry_out_locked(desired_at(where, goal), where, manner, machine=machine, display=display)


def _previous(history: History) -> int:
    earlier = [number for number in history.numbers if history.current is None or number < history.current]
    if not earlier:
        raise ObstacleError([_nothing_to_go_back_to(history)])
    return earlier[-1]


def recover(where: Target, manner: Manner) -> None:
    """Bring the machine to the generation that is current, or to the last good one when that one does not start."""
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        history = machine.generations.history()
        if undo_overdue(where, manner, machine, display):
            return
        _refuse_former_installation(machine.files.installed(), history, where)
        _tell_interruption(where, history)
        try:
            _go_to(history.current, where, manner, machine, display)
        except KlorosError as error:
            fallback = history.last_good
            if fallback in (None, history.current):
                raise
            click.echo(f"Generation {history.current} does not start; going to {fallback}, the last good one.")
            _go_to(fallback, where, manner, machine, display)
            raise LeftBehindError((*error.problems, _fell_back(history.current, fallback))) from error


def undo_overdue(where: Target, manner: Manner, machine: Machine, display: ProgressDisplay) -> bool:
    """Undo what was not confirmed in time and that nobody could undo, as the machine was down; say whether it was."""
    confirmation = Confirmation(where.root)
    waiting = confirmation.read()
    if waiting is None or not waiting.is_over:
        return False
    click.echo("The last apply was not confirmed in time.")
    _go_to(waiting.previous, where, manner, machine, display)
    confirmation.confirm()
    return True


def _go_to(number: int | None, where: Target, manner: Manner, machine: Machine, display: ProgressDisplay) -> None:
    carry_out_locked(desired_at(where, number), where, manner, machine=machine, display=display)


def _tell_interruption(where: Target, history: History) -> None:
    interrupted = journal_of(where).unfinished()
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


def list_generations(where: Target) -> None:
    """Print one row for each generation."""
    generations = generations_of(where)
    history = generations.history()
    if not history.numbers:
        click.echo("There are no generations yet: apply makes the first one.")
        return
    manifests = {number: manifest_at(generations, number) for number in history.numbers}
    rows = [("GENERATION", "MADE", "MARKS", "COMMIT", "WHAT CHANGED")]
    before: Manifest | None = None
    for number, manifest in manifests.items():
        rows.append((str(number), *_row(manifest, before, _marks(number, history))))
        before = manifest
    echo_table(rows)


def _row(manifest: Manifest | None, before: Manifest | None, marks: str) -> tuple[str, str, str, str]:
    if manifest is None:
        return ("-", marks, "-", "its manifest is damaged")
    made = manifest.provenance
    return (made.made_at or "-", marks, made.commit or "-", what_differs(before, manifest))


def _marks(number: int, history: History) -> str:
    marks = {"current": history.current, "last-good": history.last_good, "booted": history.booted}
    return ", ".join(name for name, marked in marks.items() if marked == number) or "-"


def collect(where: Target, keep: int, *, yes: bool, is_dry_run: bool) -> None:
    """Remove generations beyond the newest `keep`, never a marked one, nor one that an apply was staging."""
    with apply_lock(where.root):
        history = generations_of(where).history()
        staged = uncommitted(observe_target(nothing_desired(where.layout), where))
        going = tuple(number for number in outdated(history, keep) if number != staged)
        if not going:
            click.echo("There is nothing to remove.")
            return
        click.echo(f"Generations to remove: {', '.join(map(str, going))}.")
        if is_dry_run:
            return
        confirm("Remove them? There is no going back to them afterwards.", yes=yes)
        for number in going:
            generations_of(where).remove(number)
        click.echo(f"{len(going)} removed.")


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
        detail=f"Generation {current} did not start, so generation {fallback} is current now.",
        hint="Mend what the message above names, then apply.",
    )


def _no_generation_yet() -> Diagnostic:
    return Diagnostic(
        code="KI589",
        summary="No generation to recover",
        detail="The interrupted apply was the first to make a generation of an installation without any.",
        hint="Run `kloros-infra apply`: it carries on from what is there.",
    )
