"""The order of steps: what others need comes first, and at every point either the old or the new works.

1. weights, which nothing refers to yet and which take longest
2. the record of what is ours, old and new, before anything of it is written
3. files: programs and env files, then units, routing.json last
4. units that end stop, while their old definitions are loaded
5. their files go, and the service manager reads the rest once
6. units start or restart one by one, each ready before the next
7. files that nothing uses any more go
8. the final record
9. weights that are asked to go: the only step that cannot be undone
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.plan import (
    AwaitReady,
    PlaceWeights,
    RecordInstalled,
    ReloadManager,
    RemoveArtifact,
    RemoveWeights,
    RestartUnit,
    StartUnit,
    Step,
    StopUnit,
    WriteArtifact,
)
from kloros_infra.planner.desired import DesiredUnit
from kloros_infra.planner.file_changes import afterwards, during
from kloros_infra.planner.unit_changes import Comparison, UnitChange, Verb, stop_rank


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that has to be done, not yet in order."""

    both: Comparison
    units: Mapping[str, UnitChange]
    place: tuple[PlaceWeights, ...]
    remove: tuple[str, ...]


def steps(work: Work) -> tuple[Step, ...]:
    """Put the work in order."""
    files = (*_writes(work), *_unit_steps(work), *_leftovers(work))
    return (*work.place, *_first_record(work), *files, *_last_record(work), *map(RemoveWeights, work.remove))


def ports(work: Work) -> tuple[tuple[int, str], ...]:
    """List the ports that started units will bind."""
    starting = (unit for unit in work.both.desired.units if unit.unit in work.units)
    return tuple((port, unit.unit) for unit in starting if work.units[unit.unit].verb.is_start for port in unit.ports)


def _first_record(work: Work) -> Iterator[Step]:
    owed = frozenset(
        change.unit for change in work.units.values() if change.verb.is_restart or change.verb is Verb.START_AGAIN
    )
    if work.both.files or owed:
        yield RecordInstalled(during(work.both.desired, work.both.observed, owed))


def _last_record(work: Work) -> Iterator[Step]:
    last = afterwards(work.both.desired)
    if work.both.observed.installed != last or any(_first_record(work)):
        yield RecordInstalled(last)


def _writes(work: Work) -> Iterator[Step]:
    layout = work.both.desired.layout
    written = {file.path: file.after for file in work.both.files.values() if file.after is not None}
    for path in sorted(written, key=lambda path: _write_rank(path, layout)):
        yield WriteArtifact(path, written[path])


def _write_rank(path: str, layout: Layout) -> tuple[int, str]:
    """The router follows routing.json at once, so all that it speaks of stands before it."""
    if path == layout.routing:
        return (2, path)
    return (1 if _is_unit_file(path, layout) else 0, path)


def _is_unit_file(path: str, layout: Layout) -> bool:
    return path.startswith((f"{layout.units}/", f"{layout.former_units}/"))


def _removals(work: Work, *, units: bool) -> Iterator[Step]:
    layout = work.both.desired.layout
    for file in work.both.files.values():
        if file.after is None and _is_unit_file(file.path, layout) is units:
            yield RemoveArtifact(file.path)


def _unit_steps(work: Work) -> Iterator[Step]:
    stopping = (change.unit for change in work.units.values() if change.verb in (Verb.STOP, Verb.MOVE))
    yield from map(StopUnit, sorted(stopping, key=stop_rank))
    yield from _removals(work, units=True)
    if _must_reload(work.both):
        yield ReloadManager()
    for unit in work.both.desired.units:
        change = work.units.get(unit.unit)
        if change is not None and change.verb is not Verb.STOP:
            yield from _start(unit, change)


def _must_reload(both: Comparison) -> bool:
    observed = both.observed
    is_stale = observed.installed.is_unfinished or any(state.needs_reload for state in observed.units.values())
    return is_stale or any(_is_unit_file(path, both.desired.layout) for path in both.files)


def _start(unit: DesiredUnit, change: UnitChange) -> Iterator[Step]:
    yield RestartUnit(unit.unit) if change.verb is Verb.RESTART else StartUnit(unit.unit)
    if change.verb.is_start and unit.ready_url is not None:
        yield AwaitReady(unit.unit, unit.ready_url, unit.timeout_s)


def _leftovers(work: Work) -> Iterator[Step]:
    """Old env files: nothing reads them once the units run by their new ones."""
    yield from _removals(work, units=False)
