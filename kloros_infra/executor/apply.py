"""Station 6: Plan → the machine.

Every step is journalled before and after. When one fails, or the user interrupts, what was done is undone and the
machine is as before; when apply itself is killed, the next plan starts from what is there and converges.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import KlorosError, ObstacleError, StepFailedError
from kloros_infra.executor.journal_record import describe
from kloros_infra.executor.machine import Machine
from kloros_infra.executor.perform import perform, undo_of, undo_order
from kloros_infra.executor.precheck import obstacles
from kloros_infra.ir.plan import Plan, RemoveWeights, Step

FULL_DISK_IS_NO_MATTER = suppress(OSError)
"""The disk that made a step fail may refuse the journal as well; the machine is undone all the same."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan that was carried out; `resumed_after` is the step at which an earlier apply was killed."""

    plan: Plan
    duration_s: float
    resumed_after: str | None = None


def apply(plan: Plan, machine: Machine) -> Outcome:
    """Carry a plan out; raise ObstacleError before the first step, or StepFailedError with everything undone."""
    problems = obstacles(plan, machine)
    if problems:
        raise ObstacleError(problems)
    began = machine.clock.now()
    resumed_after = machine.journal.unfinished()
    if plan.steps:
        _perform_all(plan.steps, machine)
        machine.journal.finish("applied")
    return Outcome(plan, machine.clock.now() - began, resumed_after)


def _perform_all(steps: tuple[Step, ...], machine: Machine) -> None:
    """Perform steps in order. What undoes a step is noted before it begins, as it may fail half done."""
    undos: list[Step] = []
    for index, step in enumerate(steps):
        try:
            _perform_one(index, len(steps), step, machine, undos)
        except (KlorosError, OSError) as error:
            if isinstance(step, RemoveWeights):
                machine.journal.finish("applied, but weights were left behind")
                raise StepFailedError((*_problems(step, error), _left_behind(step))) from error
            raise StepFailedError((*_problems(step, error), *_undo(tuple(undos), machine))) from error
        except (Exception, KeyboardInterrupt):
            _undo(tuple(undos), machine)
            raise


def _perform_one(index: int, total: int, step: Step, machine: Machine, undos: list[Step]) -> None:
    text = describe(step)
    machine.display.step(index, total, text)
    machine.journal.before(index, text)
    undo = undo_of(step, machine)
    if undo is not None:
        undos.append(undo)
    perform(step, machine)
    machine.journal.after(index, text)


def _undo(undos: tuple[Step, ...], machine: Machine) -> Problems:
    """Undo what was done; a step that cannot be undone does not keep the others from it."""
    steps = undo_order(undos)
    failures: list[Diagnostic] = []
    for index, step in enumerate(steps):
        text = describe(step)
        machine.display.step(index, len(steps), f"undo: {text}")
        try:
            perform(step, machine)
        except (KlorosError, OSError) as error:
            failures.append(_not_undone(text, error))
        else:
            with FULL_DISK_IS_NO_MATTER:
                machine.journal.undone(index, text)
    with FULL_DISK_IS_NO_MATTER:
        machine.journal.finish("undone in part" if failures else "undone")
    return tuple(failures)


def _problems(step: Step, error: KlorosError | OSError) -> Problems:
    if isinstance(error, KlorosError):
        return error.problems
    return (
        Diagnostic(
            code="KI509",
            summary="A step failed",
            detail=f"Could not {describe(step)}: {error}.",
            hint="Mend what the message names, then apply again; nothing was left half-written.",
        ),
    )


def _not_undone(text: str, error: Exception) -> Diagnostic:
    return Diagnostic(
        code="KI510",
        summary="A step was not undone",
        detail=f"Could not undo with: {text}: {error}.",
        hint="Run `kloros-infra plan`: it shows what differs now; apply brings the machine to models.yaml.",
    )


def _left_behind(step: RemoveWeights) -> Diagnostic:
    return Diagnostic(
        code="KI511",
        summary="Weights were left behind",
        detail=f"Everything else is done, but {step.destination} is still there.",
        hint="Run the same command again, or remove the file by hand.",
    )
