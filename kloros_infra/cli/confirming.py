"""`apply --confirm`: what it did is undone unless somebody who can still reach the machine confirms it in time."""

from __future__ import annotations

import os
import time

import click

from kloros_infra.adapters.confirmation import Confirmation, Waiting
from kloros_infra.cli.changing import Manner, carry_out_locked
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.history import desired_at
from kloros_infra.cli.wiring import Target, locked_machine
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError, ObstacleError
from kloros_infra.executor.machine import Machine
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.figures import seconds_text

POLL_S = 0.2
LONGEST_APPLY_S = 3600.0


def carry_out_unless_confirmed(desired: Desired, where: Target, manner: Manner, *, within_s: float) -> None:
    """Apply, and have a process of its own undo it unless it is confirmed; that one sees to a killed apply, too."""
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        confirmation = Confirmation(where.root)
        previous = machine.generations.history().current
        confirmation.begin(previous)
        try:
            confirmation.start_watcher(where.manager)
            is_changed = carry_out_locked(desired, where, manner, machine=machine, display=display)
        except BaseException:
            confirmation.confirm()
            raise
        if not is_changed:
            confirmation.confirm()
            return
        confirmation.await_answer(previous, within_s)
    click.echo(f"Undone in {seconds_text(within_s)} unless you run: kloros-infra confirm{_root_words(where)}")


def _root_words(where: Target) -> str:
    return "" if where.layout.prefix == "" else f" --root {where.root}"


def confirm_apply(where: Target) -> None:
    """Keep what was applied; raise ObstacleError when nothing waits for it any more."""
    waiting = Confirmation(where.root).read()
    if waiting is None or waiting.left_s is None or not Confirmation(where.root).confirm():
        raise ObstacleError([_nothing_waits()])
    click.echo("Confirmed: the new generation stays.")


def refuse_while_waiting(where: Target) -> None:
    """Keep a second apply from building on one that may be undone."""
    waiting = Confirmation(where.root).read()
    if waiting is not None and waiting.left_s is not None and not waiting.is_over:
        raise ObstacleError([_still_waits(waiting.left_s)])


def watch(where: Target) -> None:
    """Wait until the apply is confirmed, or its time is over, or it was killed; then undo it in the latter two."""
    os.chdir("/")
    confirmation = Confirmation(where.root)
    while (waiting := confirmation.read()) is not None:
        if waiting.left_s is None:
            if _undo_abandoned(where, confirmation):
                return
        elif waiting.is_over:
            _undo(where, confirmation)
            return
        left_s = POLL_S if waiting.left_s is None else min(POLL_S, waiting.left_s)
        time.sleep(max(0.0, left_s))  # the pause between two polls of a condition with a deadline


def _undo_abandoned(where: Target, confirmation: Confirmation) -> bool:
    """Undo an apply whose process is gone: its lock is free although it has not said that it ended."""
    display = ProgressDisplay()
    try:
        with locked_machine(where, display) as machine:
            waiting = confirmation.read()
            if waiting is None or waiting.left_s is not None:
                return waiting is None
            _undo_claimed(where, confirmation, waiting, machine, display)
            return True
    except LockHeldError:
        return False


def _undo(where: Target, confirmation: Confirmation) -> None:
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=LONGEST_APPLY_S) as machine:
        waiting = confirmation.read()
        if waiting is not None:
            _undo_claimed(where, confirmation, waiting, machine, display)


def _undo_claimed(
    where: Target, confirmation: Confirmation, waiting: Waiting, machine: Machine, display: ProgressDisplay
) -> None:
    if not confirmation.claim():
        return
    click.echo("Not confirmed in time: undoing.")
    manner = Manner(yes=True)
    carry_out_locked(desired_at(where, waiting.previous), where, manner, machine=machine, display=display)
    confirmation.finish()


def _still_waits(left_s: float) -> Diagnostic:
    return Diagnostic(
        code="KI533",
        summary="An apply waits for its confirmation",
        detail=f"What the last apply did is undone in {seconds_text(left_s)} unless it is confirmed.",
        hint="Run `kloros-infra confirm` to keep it, or wait until it is undone; then apply.",
    )


def _nothing_waits() -> Diagnostic:
    return Diagnostic(
        code="KI534",
        summary="Nothing to confirm",
        detail="No apply waits for a confirmation: it was confirmed already, or it was undone.",
        hint="`kloros-infra generations` says what is current; apply again if it was undone.",
    )
