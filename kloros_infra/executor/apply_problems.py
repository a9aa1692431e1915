"""What apply says when a step fails, and how far it could be undone."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import PurePath

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import KlorosError
from kloros_infra.executor.journal_record import describe
from kloros_infra.ir.plan import AwaitReady, RemoveGeneration, RemoveWeights, Step


def why_it_ended(step: Step, error: BaseException) -> Problems:
    """Say why a step did not end well: it failed, somebody interrupted it, or the fault is our own."""
    match error:
        case KlorosError():
            return error.problems
        case OSError():
            return (failed(describe(step), error),)
        case KeyboardInterrupt():
            return (_interrupted(step),)
        case _:
            return (_fault(step, error),)


def failed(what: str, error: OSError) -> Diagnostic:
    """KI509: the system refused something."""
    return Diagnostic(
        code="KI509",
        summary="A step failed",
        detail=f"Could not {what}: {error}.",
        hint="Mend what the message names, then apply again; nothing was left half-written.",
    )


def _interrupted(step: Step) -> Diagnostic:
    return Diagnostic(
        code="KI584",
        summary="Interrupted",
        detail=f"A person or the system stopped this apply at: {describe(step)}.",
        hint="Apply again to carry it out.",
    )


def _fault(step: Step, error: BaseException) -> Diagnostic:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{PurePath(frame.filename).name}, line {frame.lineno}"
    return Diagnostic(
        code="KI598",
        summary="A fault of kloros-infra",
        detail=f"Could not {describe(step)}: {type(error).__name__} in {where}: {error}.",
        hint="Please report this message; applying again may fail in the same way.",
    )


def rolled_back(current: int | None) -> Diagnostic:
    """KI585: everything is as it was before."""
    now = "No generation is current" if current is None else f"Generation {current} is current"
    return Diagnostic(
        code="KI585",
        summary="Rolled back",
        detail=f"Everything that this apply did was undone. {now}, as before, and what ran before runs again.",
        hint="Mend what the message above names, then apply again.",
    )


def not_undone(step: Step, error: Exception) -> Problems:
    """Say what an undoing step could not do."""
    return _does_not_answer(step, error) if isinstance(step, AwaitReady) else (_not_undone(describe(step), error),)


def _not_undone(text: str, error: Exception) -> Diagnostic:
    return Diagnostic(
        code="KI510",
        summary="A step was not undone",
        detail=f"Could not undo with: {text}: {error}.",
        hint="Mend what the message names, then run `kloros-infra recover`; `kloros-infra plan` shows what differs.",
    )


def _does_not_answer(step: AwaitReady, error: Exception) -> Problems:
    broken = Diagnostic(
        code="KI586",
        summary="A unit does not answer after the rollback",
        detail=f"{step.unit} runs by its former definition again, but is not ready. The other units are as before.",
        hint="The problem above says why; mend it, then run `kloros-infra recover`.",
        address=step.unit,
    )
    return (*why_it_ended(step, error), broken)


def left_behind(steps: Iterable[Step]) -> Diagnostic:
    """KI511: everything is done but the removal of what nobody goes back to."""
    removals = [step for step in steps if isinstance(step, RemoveWeights | RemoveGeneration)]
    return Diagnostic(
        code="KI511",
        summary="Something was left behind",
        detail=f"Everything else is done; not, or not wholly, removed: {', '.join(map(_removed, removals))}.",
        hint="Run the same command again, or remove it by hand.",
    )


def _removed(step: RemoveWeights | RemoveGeneration) -> str:
    return step.destination if isinstance(step, RemoveWeights) else f"generation {step.number}"
