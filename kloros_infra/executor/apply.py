"""Station 6: Plan → the machine.

Every step is journalled before and after. When one fails, or the user interrupts, what was done is undone and the
machine is as before; when apply itself is killed, `recover` or the next plan starts from what is there and converges.
A program interrupts at most once (`cli.program.interrupt_once`), so an undo that follows an interruption is not
interrupted itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import KlorosError, LeftBehindError, ObstacleError, RolledBackError, StepFailedError
from kloros_infra.executor.apply_problems import failed, left_behind, not_undone, rolled_back, why_it_ended
from kloros_infra.executor.generations import current_manifest
from kloros_infra.executor.journal_record import describe, record
from kloros_infra.executor.machine import Machine
from kloros_infra.executor.perform import Pids, perform, undo_of, undo_order
from kloros_infra.executor.precheck import obstacles
from kloros_infra.ir.generation import Interrupted, Manifest
from kloros_infra.ir.observed import Installed
from kloros_infra.ir.plan import (
    AwaitReady,
    CheckRunning,
    FlipCurrent,
    Plan,
    RecordInstalled,
    ReloadManager,
    RemoveArtifact,
    RemoveGeneration,
    RemoveWeights,
    RestartUnit,
    StartUnit,
    Step,
    StopUnit,
    WriteArtifact,
)

NOT_UNDONE = (RemoveWeights, RemoveGeneration)
OF_UNITS = (StartUnit, RestartUnit, AwaitReady, CheckRunning)
OF_DEFINITIONS = (WriteArtifact, RemoveArtifact, FlipCurrent, ReloadManager)


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
    elif resumed_after is not None:
        _tell(partial(machine.journal.finish, "nothing was left to do"))
    _sweep(machine)
    return Outcome(plan, machine.clock.now() - began, resumed_after)


def _begin(steps: tuple[Step, ...], machine: Machine) -> None:
    current = machine.generations.history().current
    flips = [step.number for step in steps if isinstance(step, FlipCurrent)]
    goal = flips[-1] if flips else current
    try:
        machine.journal.begin({"previous": current, "goal": goal, "steps": len(steps)})
    except OSError as error:
        raise StepFailedError([failed("begin the journal", error)]) from error


@dataclass(slots=True)
class _Progress:
    """How far an apply has come: the step in work, and what undoes it and those before it, as far as it can be."""

    steps: tuple[Step, ...]
    before: Manifest | None
    index: int = 0
    undos: list[Step] = field(default_factory=list)
    pids: Pids = field(default_factory=dict)

    @property
    def step(self) -> Step:
        return self.steps[self.index]


def _perform_all(steps: tuple[Step, ...], machine: Machine, before: Manifest | None) -> None:
    """Perform steps in order; a failure, an interruption and a fault of our own end it in the same way."""
    _begin(steps, machine)
    progress = _Progress(steps, before)
    try:
        for index in range(len(steps)):
            progress.index = index
            _perform_one(progress, machine)
    except (Exception, KeyboardInterrupt) as error:
        raise _ended(progress, machine, error) from error
    # What was done stays done, though a full disk cannot tell that it ended, and nobody can interrupt it any more.
    with suppress(KeyboardInterrupt):
        _tell(partial(machine.journal.finish, "applied"))


def _perform_one(progress: _Progress, machine: Machine) -> None:
    """Perform one step. What undoes it is noted before it begins, as it may fail half done."""
    step, index = progress.step, progress.index
    machine.display.step(index, len(progress.steps), describe(step))
    machine.journal.before(index, record(step))
    undo = undo_of(step, machine)
    if undo is not None:
        progress.undos.append(undo)
    perform(step, machine, progress.pids)
    machine.journal.after(index, record(step))


def _ended(progress: _Progress, machine: Machine, error: Exception | KeyboardInterrupt) -> StepFailedError:
    """Undo, and give what is told of it; an undo that is interrupted is done once more, and then to its end."""
    try:
        return _undone(progress, machine, error)
    except KeyboardInterrupt:
        return _undone(progress, machine, error)


def _undone(progress: _Progress, machine: Machine, error: Exception | KeyboardInterrupt) -> StepFailedError:
    """Undo, unless the step that did not end removes what nobody goes back to: then all else is done."""
    problems = why_it_ended(progress.step, error)
    if isinstance(progress.step, NOT_UNDONE):
        _tell(partial(machine.journal.finish, "applied, but something was left behind"))
        return LeftBehindError((*problems, left_behind(progress.steps[progress.index :])))
    failures = _undo(tuple(progress.undos), machine, progress.before)
    ended: StepFailedError
    if failures:
        ended = LeftBehindError((*problems, *failures))
    elif all(isinstance(step, RecordInstalled | RemoveGeneration) for step in progress.undos):
        ended = StepFailedError(problems)
    else:
        ended = RolledBackError((*problems, rolled_back(machine.generations.history().current)))
    ended.is_of_units = isinstance(progress.step, OF_UNITS) and isinstance(error, KlorosError)
    return ended


def _undo(undos: tuple[Step, ...], machine: Machine, before: Manifest | None) -> Problems:
    """Undo what was done; a step that cannot be undone does not keep the others from it.

    But then the record of what is ours stays unfinished, so that the next plan sees to what is left.
    """
    steps = undo_order(undos, before)
    problems: list[Diagnostic] = []
    failures: list[Step] = []
    for index, step in enumerate(steps):
        if failures and _must_wait(step, failures):
            continue
        machine.display.step(index, len(steps), f"undo: {describe(step)}")
        try:
            perform(step, machine, {})
        except Exception as error:  # whatever it is, the other steps are undone
            problems += not_undone(step, error)
            failures.append(step)
        else:
            _tell(partial(machine.journal.undone, index, record(step)))
    if failures:
        _record_unfinished(undos, failures, machine)
    _tell(partial(machine.journal.finish, "undone in part" if failures else "undone"))
    return tuple(problems)


def _must_wait(step: Step, failures: Iterable[Step]) -> bool:
    """Say whether a step would take away what the next plan needs: the record, or a generation that is still in use."""
    is_in_use = any(isinstance(failure, OF_DEFINITIONS) for failure in failures)
    return isinstance(step, RecordInstalled) or (is_in_use and isinstance(step, RemoveGeneration))


def _record_unfinished(undos: tuple[Step, ...], failures: Iterable[Step], machine: Machine) -> None:
    """Have the record say that something is left to do, and which units it owes a restart.

    Where this fails, too, what it says since the first step is as much.
    """
    owed = frozenset(step.unit for step in _unit_steps(failures))
    if any(isinstance(failure, OF_DEFINITIONS) for failure in failures):
        owed |= frozenset(step.unit for step in _unit_steps(undos))
    with suppress(OSError, KlorosError):
        now = machine.files.installed()
        earlier = [step.installed for step in undos if isinstance(step, RecordInstalled)] or [now]
        machine.files.record_installed(_unfinished(now, earlier, owed))


def _unfinished(now: Installed, earlier: list[Installed], owed: frozenset[str]) -> Installed:
    """Join records: what any of them calls ours may be there."""
    digests = {path: digest for one in (*reversed(earlier), now) for path, digest in one.digests.items()}
    return replace(now, digests=digests, is_unfinished=True, owed=earlier[0].owed | owed, kept=earlier[0].kept)


def _unit_steps(steps: Iterable[Step]) -> Iterable[StartUnit | RestartUnit | StopUnit | AwaitReady]:
    return (step for step in steps if isinstance(step, StartUnit | RestartUnit | StopUnit | AwaitReady))


def _tell(write: Callable[[], None]) -> None:
    """Write to the journal if the disk takes it: what happened has happened all the same."""
    with suppress(OSError):
        write()


def _sweep(machine: Machine) -> None:
    """Take away what killed runs left half made, now that nothing of it is needed."""
    with suppress(OSError, KlorosError, KeyboardInterrupt):
        machine.generations.sweep()
        machine.files.sweep()
