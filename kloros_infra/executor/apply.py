"""Station 6: Plan → the machine.

Every step is journalled before and after. When one fails, or the user interrupts, what was done is undone and the
machine is as before; when apply itself is killed, `recover` or the next plan starts from what is there and converges.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import KlorosError, LeftBehindError, ObstacleError, RolledBackError, StepFailedError
from kloros_infra.executor.generations import current_manifest
from kloros_infra.executor.journal_record import describe, record
from kloros_infra.executor.machine import Machine
from kloros_infra.executor.perform import perform, undo_of, undo_order
from kloros_infra.executor.precheck import obstacles
from kloros_infra.ir.generation import Interrupted, Manifest
from kloros_infra.ir.plan import (
    AwaitReady,
    FlipCurrent,
    Plan,
    RecordInstalled,
    RemoveGeneration,
    RemoveWeights,
    Step,
)

FULL_DISK_IS_NO_MATTER = suppress(OSError)
"""The disk that made a step fail may refuse the journal as well; the machine is undone all the same."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan that was carried out; `resumed_after` is where an earlier apply was killed."""

    plan: Plan
    duration_s: float
    resumed_after: Interrupted | None = None


def apply(plan: Plan, machine: Machine) -> Outcome:
    """Carry a plan out; raise ObstacleError before the first step, or StepFailedError with everything undone.

    Of the latter there are RolledBackError when units or files had been touched, and LeftBehindError when the undoing
    is not complete.
    """
    problems = obstacles(plan, machine)
    if problems:
        raise ObstacleError(problems)
    began = machine.clock.now()
    resumed_after = machine.journal.unfinished()
    if plan.steps:
        _perform_all(plan.steps, machine, current_manifest(machine.generations))
        machine.journal.finish("applied")
    elif resumed_after is not None:
        machine.journal.finish("nothing was left to do")
    return Outcome(plan, machine.clock.now() - began, resumed_after)


def _begin(steps: tuple[Step, ...], machine: Machine) -> None:
    current = machine.generations.history().current
    flips = [step.number for step in steps if isinstance(step, FlipCurrent)]
    goal = flips[-1] if flips else current
    try:
        machine.journal.begin({"previous": current, "goal": goal, "steps": len(steps)})
    except OSError as error:
        raise StepFailedError([_failed("begin the journal", error)]) from error


def _perform_all(steps: tuple[Step, ...], machine: Machine, before: Manifest | None) -> None:
    """Perform steps in order. What undoes a step is noted before it begins, as it may fail half done."""
    _begin(steps, machine)
    undos: list[Step] = []
    for index, step in enumerate(steps):
        try:
            _perform_one(index, len(steps), step, machine, undos)
        except (KlorosError, OSError) as error:
            if isinstance(step, RemoveWeights | RemoveGeneration):
                machine.journal.finish("applied, but something was left behind")
                raise LeftBehindError((*_problems(step, error), _left_behind(step))) from error
            raise _undone(tuple(undos), machine, before, _problems(step, error)) from error
        except (Exception, KeyboardInterrupt):
            _undo(tuple(undos), machine, before)
            raise


def _perform_one(index: int, total: int, step: Step, machine: Machine, undos: list[Step]) -> None:
    text = describe(step)
    machine.display.step(index, total, text)
    machine.journal.before(index, record(step))
    undo = undo_of(step, machine)
    if undo is not None:
        undos.append(undo)
    perform(step, machine)
    machine.journal.after(index, record(step))


def _undone(undos: tuple[Step, ...], machine: Machine, before: Manifest | None, problems: Problems) -> StepFailedError:
    """Undo, and say in one error why, and how far that went."""
    failures = _undo(undos, machine, before)
    if failures:
        return LeftBehindError((*problems, *failures))
    if all(isinstance(step, RecordInstalled | RemoveGeneration) for step in undos):
        return StepFailedError(problems)
    return RolledBackError((*problems, _rolled_back(before)))


def _undo(undos: tuple[Step, ...], machine: Machine, before: Manifest | None) -> Problems:
    """Undo what was done; a step that cannot be undone does not keep the others from it."""
    steps = undo_order(undos, before)
    failures: list[Diagnostic] = []
    for index, step in enumerate(steps):
        text = describe(step)
        machine.display.step(index, len(steps), f"undo: {text}")
        try:
            perform(step, machine)
        except (KlorosError, OSError) as error:
            failures += _does_not_answer(step, error) if isinstance(step, AwaitReady) else [_not_undone(text, error)]
        else:
            with FULL_DISK_IS_NO_MATTER:
                machine.journal.undone(index, record(step))
    with FULL_DISK_IS_NO_MATTER:
        machine.journal.finish("undone in part" if failures else "undone")
    return tuple(failures)


def _problems(step: Step, error: KlorosError | OSError) -> Problems:
    if isinstance(error, KlorosError):
        return error.problems
    return (_failed(describe(step), error),)


def _failed(what: str, error: OSError) -> Diagnostic:
    return Diagnostic(
        code="KI509",
        summary="A step failed",
        detail=f"Could not {what}: {error}.",
        hint="Mend what the message names, then apply again; nothing was left half-written.",
    )


def _rolled_back(before: Manifest | None) -> Diagnostic:
    now = "Nothing of ours is there" if before is None else f"Generation {before.number} is current"
    return Diagnostic(
        code="KI585",
        summary="Rolled back",
        detail=f"Everything that this apply did was undone. {now}, as before, and its units run as before.",
        hint="Mend what the message above names, then apply again.",
    )


def _not_undone(text: str, error: Exception) -> Diagnostic:
    return Diagnostic(
        code="KI510",
        summary="A step was not undone",
        detail=f"Could not undo with: {text}: {error}.",
        hint="Run `kloros-infra plan`: it shows what differs now; apply brings the machine to models.yaml.",
    )


def _does_not_answer(step: AwaitReady, error: KlorosError | OSError) -> Problems:
    broken = Diagnostic(
        code="KI586",
        summary="A unit does not answer after the rollback",
        detail=f"{step.unit} runs by its former definition again, but is not ready. The other units are as before.",
        hint="The problem above says why; mend it, then run `kloros-infra recover`.",
        address=step.unit,
    )
    return (*_problems(step, error), broken)


def _left_behind(step: RemoveWeights | RemoveGeneration) -> Diagnostic:
    what = step.destination if isinstance(step, RemoveWeights) else f"generation {step.number}"
    return Diagnostic(
        code="KI511",
        summary="Something was left behind",
        detail=f"Everything else is done, but {what} is still there.",
        hint="Run the same command again, or remove it by hand.",
    )
