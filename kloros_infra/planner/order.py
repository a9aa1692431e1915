"""The order of steps: what others need comes first, and at every point either the old or the new works.

1. weights, which nothing refers to yet and which take longest
2. the record of what is ours, old and new, before anything of it is written
3. the new generation beside the others, read back and checked
4. units that end stop, while their old definitions are loaded
5. fixed files; then the new generation becomes the current one, at once
6. unit files of before there were generations go, and the service manager reads the rest once
7. units start or restart one by one, each ready before the next
8. the generation is the last good one; files that nothing uses any more go
9. the final record
10. what cannot be undone: old generations, and weights that are asked to go
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from kloros_infra.ir.generation import DesiredUnit
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import (
    AwaitReady,
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
from kloros_infra.planner.file_changes import afterwards, during
from kloros_infra.planner.generation_changes import Move, content_of, outdated
from kloros_infra.planner.unit_changes import Comparison, UnitChange, Verb, stop_rank


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
    change = (*_stage(work), *_early_stops(work), *_writes(work), *_flip(work), *_unit_steps(work), *_finish(work))
    first = tuple(_first_record(work))
    last = _last_record(work, is_due=bool(first or change))
    return (*work.place, *first, *change, *last, *_removed_generations(work), *map(RemoveWeights, work.remove))


def ports(work: Work) -> tuple[tuple[int, str], ...]:
    """List the ports that started units will bind."""
    starting = (unit for unit in work.both.desired.units if unit.unit in work.units)
    return tuple((port, unit.unit) for unit in starting if work.units[unit.unit].verb.is_start for port in unit.ports)


def _first_record(work: Work) -> Iterator[Step]:
    owed = frozenset(
        change.unit for change in work.units.values() if change.verb.is_restart or change.verb is Verb.START_AGAIN
    )
    staged = work.move.goal if work.move.manifest is not None else None
    if work.both.files or owed or work.move.is_flip:
        yield RecordInstalled(during(work.both.desired, work.both.observed, owed, staged))


def _last_record(work: Work, *, is_due: bool) -> Iterator[Step]:
    last = afterwards(work.both.desired)
    if is_due or work.both.observed.installed != last:
        yield RecordInstalled(last)


def _stage(work: Work) -> Iterator[Step]:
    manifest = work.move.manifest
    if manifest is not None:
        yield StageGeneration(manifest.number, content_of(work.both.desired), manifest)
    if work.move.is_flip and work.move.goal is not None:
        yield VerifyGeneration(work.move.goal, work.both.desired.exposure_limit)


def _early_stops(work: Work) -> Iterator[Step]:
    stopping = (change.unit for change in work.units.values() if change.verb in (Verb.STOP, Verb.MOVE))
    yield from map(StopUnit, sorted(stopping, key=stop_rank))


def _writes(work: Work) -> Iterator[Step]:
    layout = work.both.desired.layout
    for path, file in work.both.files.items():
        if file.after is not None and not layout.is_content(path):
            yield WriteArtifact(path, file.after)


def _flip(work: Work) -> Iterator[Step]:
    if work.move.is_flip:
        yield FlipCurrent(work.move.goal)


def _removals(work: Work, *, units: bool) -> Iterator[Step]:
    layout = work.both.desired.layout
    for path, file in work.both.files.items():
        if file.after is None and not layout.is_content(path) and _counts_at_reload(path, layout) is units:
            yield RemoveArtifact(path)


def _counts_at_reload(path: str, layout: Layout) -> bool:
    return path == layout.generator or path.startswith((f"{layout.units}/", f"{layout.former_units}/"))


def _unit_steps(work: Work) -> Iterator[Step]:
    yield from _removals(work, units=True)
    if _must_reload(work.both):
        yield ReloadManager()
    starting = tuple(unit for unit in work.both.desired.units if _starts(work.units.get(unit.unit)))
    failed = tuple(unit.unit for unit in starting if _has_failed(unit, work.both))
    if failed:
        yield ResetFailed(failed)
    for unit in starting:
        yield from _start(unit, work.units[unit.unit])


def _starts(change: UnitChange | None) -> bool:
    return change is not None and change.verb is not Verb.STOP


def _has_failed(unit: DesiredUnit, both: Comparison) -> bool:
    state = both.observed.units[unit.unit]
    return state.active is ActiveState.FAILED or state.sub == "auto-restart"


def _must_reload(both: Comparison) -> bool:
    """Say whether unit files change, or may be others than the service manager has read."""
    observed = both.observed
    is_stale = observed.installed.is_unfinished or any(state.needs_reload for state in observed.units.values())
    return is_stale or any(_counts_at_reload(path, both.desired.layout) for path in both.files)


def _start(unit: DesiredUnit, change: UnitChange) -> Iterator[Step]:
    yield RestartUnit(unit.unit) if change.verb is Verb.RESTART else StartUnit(unit.unit)
    if change.verb.is_start and unit.ready_url is not None:
        yield AwaitReady(unit.unit, unit.ready_url, unit.timeout_s, unit.gate)


def _finish(work: Work) -> Iterator[Step]:
    """Everything runs: the rest brings our own house in order."""
    if work.both.observed.history.last_good != work.move.goal:
        yield MarkLastGood(work.move.goal)
    if work.move.leftover is not None:
        yield RemoveGeneration(work.move.leftover)
    yield from _removals(work, units=False)


def _removed_generations(work: Work) -> Iterator[Step]:
    """A new generation makes the oldest go; without us, all of them go."""
    history, goal, left = work.both.observed.history, work.move.goal, work.move.leftover
    numbers = tuple(number for number in history.numbers if number not in (goal, left))
    if work.both.desired.is_destroyed:
        yield from map(RemoveGeneration, numbers)
    elif work.move.manifest is not None and goal is not None:
        after = replace(history, numbers=(*numbers, goal), current=goal, last_good=goal)
        yield from map(RemoveGeneration, outdated(after, work.both.desired.keep_generations))
