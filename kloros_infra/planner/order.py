"""The order of steps: what others need comes first, and at every point either the old or the new works.

1. the record of what is ours, old and new, and of restarts that are owed, before anything of it is written
2. weights, which take longest
3. the new generation beside the others, read back and checked
4. where the generation stays and the profile changes, the file that says so, which the router moves requests by: before
   another generation is current, it would start what the old one says
5. units whose card or port another one needs stop, while their old definitions are loaded
6. fixed files; then the new generation becomes the current one, at once
7. unit files of before there were generations go, and the service manager reads the rest once: after a flip always,
   as what it read names the former generation's files
8. units start in waves or restart one by one, each ready before the next; then the rest of those that end stop, and
   targets start; in the end all that was started must run still
9. the generation is the last good one; files that nothing uses any more go
10. the final record; then what a killed apply had staged goes
11. what cannot be undone: old generations, and weights that are asked to go
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from kloros_infra.ir.gate import InstanceGate
from kloros_infra.ir.generation import DesiredUnit
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import (
    AwaitReady,
    CheckRunning,
    FlipCurrent,
    MarkLastGood,
    RecordInstalled,
    ReloadManager,
    RemoveArtifact,
    RemoveGeneration,
    RemoveWeights,
    ResetFailed,
    RestartUnit,
    StageGeneration,
    StartUnit,
    Step,
    StopUnit,
    VerifyGeneration,
    WriteArtifact,
)
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.cost import start_timeout_s
from kloros_infra.planner.file_changes import afterwards, during
from kloros_infra.planner.generation_changes import Move, content_of, outdated
from kloros_infra.planner.unit_changes import UnitChange, Verb
from kloros_infra.planner.waves import Schedule, schedule


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that has to be done, not yet in order."""

    both: Comparison
    units: Mapping[str, UnitChange]
    place: tuple[PlaceWeights, ...]
    remove: tuple[str, ...]
    move: Move


def steps(work: Work) -> tuple[Step, ...]:
    """Put the work in order."""
    when = schedule(work.both, work.units)
    stops = map(StopUnit, when.early)
    routes = tuple(_routes(work))
    rest = (step for step in _writes(work) if step not in routes)
    change = (*_stage(work), *routes, *stops, *rest, *_flip(work), *_unit_steps(work, when), *_finish(work))
    first = tuple(_first_record(work))
    last = tuple(_last_records(work, is_due=bool(first or change)))
    return (*first, *work.place, *change, *last, *_removed_generations(work), *map(RemoveWeights, work.remove))


def ports(work: Work) -> tuple[tuple[int, str], ...]:
    """List the ports that started units will bind."""
    starting = (unit for unit in work.both.desired.units if unit.unit in work.units)
    return tuple((port, unit.unit) for unit in starting if work.units[unit.unit].verb.is_start for port in unit.ports)


def _first_record(work: Work) -> Iterator[Step]:
    owed = frozenset(change.unit for change in work.units.values() if change.verb in (Verb.RESTART, Verb.START_AGAIN))
    staged = work.move.goal if work.move.manifest is not None else work.move.leftover
    if work.both.files or owed or work.move.is_flip:
        desired, observed = work.both.desired, work.both.observed
        # What this plan restarts may still run by what it was left with when the plan is interrupted.
        kept = {**observed.installed.kept, **work.both.kept}
        yield RecordInstalled(during(desired, observed, owed=owed, staged=staged, kept=kept))


def _last_records(work: Work, *, is_due: bool) -> Iterator[Step]:
    """Say that all is done; what a killed apply staged goes then, and is remembered until it is gone."""
    last, left = afterwards(work.both.desired, work.both.kept), work.move.leftover
    if is_due or work.both.observed.installed != replace(last, staged=left):
        yield RecordInstalled(replace(last, staged=left))
    if left is not None:
        yield from (RemoveGeneration(left), RecordInstalled(last))


def _stage(work: Work) -> Iterator[Step]:
    manifest = work.move.manifest
    if manifest is not None:
        yield StageGeneration(manifest.number, content_of(work.both.desired), manifest)
    if work.move.is_flip and work.move.goal is not None:
        yield VerifyGeneration(work.move.goal, work.both.desired.exposure_limit)


def _writes(work: Work) -> Iterator[WriteArtifact]:
    for path, file in work.both.files.items():
        if file.after is not None and not _comes_with_a_flip(path, work):
            yield WriteArtifact(path, file.after)


def _routes(work: Work) -> Iterator[WriteArtifact]:
    """Say to whom the router sends requests from now on, so that none goes to what stops."""
    for step in _writes(work):
        if step.path == work.both.desired.layout.profile_file and not work.move.is_flip:
            yield step


def _comes_with_a_flip(path: str, work: Work) -> bool:
    """Say whether a file is in place once another generation is current; in the one that stays, it is put back."""
    return work.move.is_flip and work.both.desired.layout.is_content(path)


def _flip(work: Work) -> Iterator[Step]:
    if work.move.is_flip:
        yield FlipCurrent(work.move.goal)


def _removals(work: Work, *, units: bool) -> Iterator[Step]:
    layout = work.both.desired.layout
    for path, file in work.both.files.items():
        is_due = file.after is None and not _comes_with_a_flip(path, work)
        if is_due and _counts_at_reload(path, layout) is units:
            yield RemoveArtifact(path)


def _counts_at_reload(path: str, layout: Layout) -> bool:
    return path == layout.generator or path.startswith((f"{layout.units}/", f"{layout.former_units}/"))


def _unit_steps(work: Work, when: Schedule) -> Iterator[Step]:
    yield from _removals(work, units=True)
    if _must_reload(work):
        yield ReloadManager()
    starting = tuple(unit for unit in work.both.desired.units if _starts(work.units.get(unit.unit)))
    failed = tuple(unit.unit for unit in starting if _has_failed(unit, work.both))
    if failed:
        yield ResetFailed(failed)
    for wave in when.waves:
        yield from _start(wave, when, work)
    yield from map(StopUnit, when.late)
    for name in when.last:
        yield from _start((name,), when, work)
    started = tuple(unit.unit for unit in starting if work.units[unit.unit].verb.is_start)
    if started:
        yield CheckRunning(started)


def _starts(change: UnitChange | None) -> bool:
    return change is not None and change.verb is not Verb.STOP


def _has_failed(unit: DesiredUnit, both: Comparison) -> bool:
    state = both.observed.units[unit.unit]
    return state.active is ActiveState.FAILED or state.sub == "auto-restart"


def _must_reload(work: Work) -> bool:
    """Say whether unit files change, or may be others than the service manager has read.

    After every flip they are: what it has read names files of the generation before, which may be removed later.
    """
    both, observed = work.both, work.both.observed
    is_stale = observed.installed.is_unfinished or any(state.needs_reload for state in observed.units.values())
    return work.move.is_flip or is_stale or any(_counts_at_reload(path, both.desired.layout) for path in both.files)


def _start(wave: Collection[str], when: Schedule, work: Work) -> Iterator[Step]:
    """Start units together, then wait for all of them; they share the disk, so each is given the time of all."""
    units = tuple(unit for unit in work.both.desired.units if unit.unit in wave)
    for unit in units:
        is_restart = work.units[unit.unit].verb is Verb.RESTART and unit.unit not in when.early
        yield RestartUnit(unit.unit) if is_restart else StartUnit(unit.unit)
    least_s = start_timeout_s(sum(unit.load_bytes for unit in units)) if len(units) > 1 else 0.0
    for unit in units:
        if work.units[unit.unit].verb.is_start and unit.ready_url is not None:
            yield AwaitReady(unit.unit, unit.ready_url, max(unit.timeout_s, least_s), _patient(unit.gate, least_s))


def _patient(gate: InstanceGate | None, least_s: float) -> InstanceGate | None:
    return gate and replace(gate, token_timeout_s=max(gate.token_timeout_s, least_s))


def _finish(work: Work) -> Iterator[Step]:
    """Everything runs: the rest brings our own house in order."""
    if work.both.observed.history.last_good != work.move.goal:
        yield MarkLastGood(work.move.goal)
    yield from _removals(work, units=False)


def _removed_generations(work: Work) -> Iterator[Step]:
    """A new generation makes the oldest go, but not the one before it, which a rollback goes to.

    Without us, all of them go.
    """
    history, goal, left = work.both.observed.history, work.move.goal, work.move.leftover
    numbers = tuple(number for number in history.numbers if number not in (goal, left))
    if work.both.desired.is_destroyed:
        yield from map(RemoveGeneration, numbers)
    elif work.move.manifest is not None and goal is not None:
        after = replace(history, numbers=(*numbers, goal), current=goal, last_good=goal)
        going = outdated(after, work.both.desired.keep_generations)
        yield from (RemoveGeneration(number) for number in going if number != history.current)
