"""`apply --confirm`: what it did is undone unless somebody who can still reach the machine confirms it in time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.cli.changing import Manner, carry_out_locked
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.history import desired_at
from kloros_infra.cli.program import refused_by_system
from kloros_infra.cli.render import show_problems
from kloros_infra.cli.wiring import Target, locked_machine
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError, LockHeldError, ObstacleError
from kloros_infra.executor.machine import Machine
from kloros_infra.planner.figures import seconds_text

POLL_S = 0.2
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
"""Between two attempts to undo: what is in the way, such as a port or a full disk, may go."""

Work = Callable[[Machine, ProgressDisplay], object]


def do_confirmed(work: Work, where: Target, *, wait_s: float, within_s: float | None) -> None:
    """Do what changes the machine, under its lock; raise ObstacleError while an earlier apply may be undone."""
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=wait_s) as machine:
        refuse_while_waiting(where)
        if within_s is None:
            work(machine, display)
            return
        with _to_be_confirmed(where, machine, within_s):
            work(machine, display)


@contextmanager
def _to_be_confirmed(where: Target, machine: Machine, within_s: float) -> Iterator[None]:
    """Have a process of its own undo what is done meanwhile; that one sees to an apply that is killed, too.

    Whether there is anything to confirm is told by the generation that is current at the end: also an apply that ends
    with an error may have gone to a new one.
    """
    confirmation = Confirmation(where.root)
    previous = machine.generations.history().current
    confirmation.begin(previous, where.manager)
    try:
        confirmation.start_watcher(where.manager)
        yield
    finally:
        if machine.generations.history().current == previous:
            confirmation.confirm()
        else:
            confirmation.await_answer(previous, within_s)
            with suppress(OSError):  # nobody may be there to read it: then it is undone
                click.echo(f"Undone in {seconds_text(within_s)} unless you run: {_confirm_words(where)}")


def _confirm_words(where: Target) -> str:
    return "kloros-infra confirm" + ("" if where.layout.prefix == "" else f" --root {where.root}")


def confirm_apply(where: Target) -> None:
    """Keep what was applied; raise ObstacleError when nothing waits for it any more.

    An undoing that has begun and that nobody is at work on could not be done: then what is there is kept.
    """
    confirmation = Confirmation(where.root)
    waiting = confirmation.read()
    if waiting is None or waiting.left_s is None:
        raise ObstacleError([_nothing_waits()])
    if confirmation.confirm():
        click.echo("Confirmed: the new generation stays.")
        return
    with apply_lock(where.root):
        if confirmation.read() is None:
            raise ObstacleError([_nothing_waits()])
        confirmation.settle()
    click.echo("Confirmed: it is not undone any more. `kloros-infra recover` completes what the undoing left.")


def refuse_while_waiting(where: Target) -> None:
    """Keep a second apply from building on one that may be undone; the caller holds the lock.

    While an apply holds the lock, what waits without a deadline is what a killed one left.
    """
    waiting = Confirmation(where.root).read()
    if waiting is not None:
        raise ObstacleError([_still_waits(waiting.left_s)])


def watch(where: Target) -> None:
    """Wait until the apply is confirmed, or its time is over, or it was killed; then undo it in the latter two.

    What cannot be undone is tried again after growing pauses, until it is undone or somebody decides otherwise.
    """
    os.chdir("/")
    confirmation = Confirmation(where.root)
    next_s, pause_s = time.monotonic(), FIRST_PAUSE_S
    while (waiting := confirmation.read()) is not None:
        if waiting.is_due and time.monotonic() >= next_s and not _undo(where, confirmation):
            next_s, pause_s = time.monotonic() + pause_s, min(2 * pause_s, LONGEST_PAUSE_S)
        left_s = POLL_S if waiting.left_s is None or waiting.is_over else min(POLL_S, waiting.left_s)
        time.sleep(max(0.0, left_s))  # the pause between two polls of a condition with a deadline


def _undo(where: Target, confirmation: Confirmation) -> bool:
    """Undo what is due; say whether that is settled, or an apply that is at work will settle it.

    An apply whose lock is free although it has not said that it ended was killed.
    """
    display = ProgressDisplay()
    try:
        with locked_machine(where, display) as machine:
            waiting = confirmation.read()
            if waiting is not None and waiting.is_due and confirmation.claim():
                click.echo("Not confirmed in time: undoing.")
                desired = desired_at(where, waiting.previous)
                carry_out_locked(desired, where, Manner(yes=True), machine=machine, display=display)
                confirmation.settle()
    except LockHeldError:
        return True
    except (KlorosError, OSError) as error:
        problems = error.problems if isinstance(error, KlorosError) else (refused_by_system(error),)
        show_problems(problems, {})
        return False
    return True


def _still_waits(left_s: float | None) -> Diagnostic:
    if left_s is not None and left_s > 0:
        return Diagnostic(
            code="KI533",
            summary="An apply waits for its confirmation",
            detail=f"What the last apply did is undone in {seconds_text(left_s)} unless it is confirmed.",
            hint="Run `kloros-infra confirm` to keep it, or wait until it is undone; then apply.",
        )
    return Diagnostic(
        code="KI533",
        summary="An apply was not confirmed",
        detail="The last apply was not confirmed in time, or was killed, and has not been undone yet.",
        hint="Run `kloros-infra recover`, which undoes it, `kloros-infra confirm`, which keeps it as it is, or "
        "`kloros-infra rollback N`; then apply.",
    )


def _nothing_waits() -> Diagnostic:
    return Diagnostic(
        code="KI534",
        summary="Nothing to confirm",
        detail="No apply waits for a confirmation: it was confirmed already, or it was undone.",
        hint="`kloros-infra generations` says what is current; apply again if it was undone.",
    )
