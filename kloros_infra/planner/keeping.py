"""Whether a running unit is restarted now or goes on by what it was started with: `on_change` of models.yaml.

What a process runs by is what its files said when it started. That is what they say on the machine, unless an earlier
plan left it running: then it is what was remembered, as long as it is still the same process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.artifact import TextFile, text_of
from kloros_infra.ir.generation import DesiredUnit
from kloros_infra.ir.observed import UnitState
from kloros_infra.ir.on_change import ON_CHANGE_KEY, Deferral, Definition, Kept, OnChange
from kloros_infra.ir.unit_keys import program, unit_keys
from kloros_infra.planner.address import unit_address
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.definitions import (
    CONFINING_ONLY,
    PORT,
    definition,
    differences,
    env_paths,
    relative,
)

UNKNOWN = Definition("", {}, "", {})
"""What a process runs by whose unit file was taken away, or that an interrupted apply left: nobody can tell."""

FOLLOWED = "requests would be sent to its new port"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a running unit is restarted now, and what differs and waits until it next starts."""

    now: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


def verdict(unit: DesiredUnit, state: UnitState, both: Comparison) -> Verdict:
    """Decide about a unit that runs."""
    forced = tuple(_forced(unit, both))
    found = (*_misplaced(unit, both), *_differences(unit, both))
    on_change = on_change_of(unit.unit, both)
    if forced or not found or on_change is OnChange.RESTART:
        return Verdict(now=(*forced, *found))
    if state.main_pid == 0:
        # What is about to start has nothing to go on with, and systemd starts it by its new definition.
        return Verdict()
    match on_change:
        case OnChange.RELOAD if not CONFINING_ONLY.issuperset(found):
            return Verdict(now=found)
        case OnChange.DEFER if moves_port(unit, both):
            return Verdict(now=(*found, FOLLOWED))
        case OnChange.RELOAD | OnChange.DEFER | OnChange.NEVER:
            return Verdict(later=found)
        case _ as never:
            assert_never(never)


def on_change_of(unit: str, both: Comparison) -> OnChange:
    """Read the word in a unit's file, as it is wanted; a unit without one restarts."""
    text = text_of(both.desired.tree.get(both.desired.layout.unit_path(unit)))
    word = unit_keys(text).get(f"Unit.{ON_CHANGE_KEY}", "")
    return OnChange(word) if word in set(OnChange) else OnChange.RESTART


def kept_units(both: Comparison, changed: Collection[str], waiting: Collection[str]) -> dict[str, Kept]:
    """Say which processes go on by a former definition: those that wait, and those that this plan does not touch."""
    kept: dict[str, Kept] = {}
    for unit in both.desired.units:
        known = remembered(unit.unit, both)
        if unit.unit in changed:
            continue
        if known is not None and (not both.desired.acts_on(unit.unit) or _differences(unit, both)):
            kept[unit.unit] = known
        elif unit.unit in waiting or _is_owed(unit, both):
            kept[unit.unit] = _new(unit, both)
    return kept


def _is_owed(unit: DesiredUnit, both: Comparison) -> bool:
    """Say whether a unit that this plan does not touch may run by what an interrupted apply found."""
    state = both.observed.units.get(unit.unit)
    return unit.unit in both.observed.installed.owed and state is not None and state.is_up and state.main_pid > 0


def deferrals(both: Comparison, waiting: Mapping[str, tuple[str, ...]]) -> tuple[Deferral, ...]:
    """List what waits, for people."""
    return tuple(
        Deferral(unit_address(unit), on_change_of(unit, both), "; ".join(reasons)) for unit, reasons in waiting.items()
    )


def remembered(unit: str, both: Comparison) -> Kept | None:
    """Give what an earlier plan left a unit's process running by; None when it has been started anew since."""
    kept, state = both.observed.installed.kept.get(unit), both.observed.units.get(unit)
    if kept is None or state is None or state.main_pid != kept.main_pid:
        return None
    process = both.observed.running.get(unit)
    is_other = process is not None and kept.started_s not in (None, process.started_s)
    return None if is_other else kept


def running_definition(unit: DesiredUnit, both: Comparison) -> Definition:
    """Say what a unit's process runs by."""
    known = remembered(unit.unit, both)
    observed = both.observed
    return known.definition if known else definition(unit, observed.files, observed.weights, both.desired)


def moves_port(unit: DesiredUnit, both: Comparison) -> bool:
    """Say whether the unit leaves its port, which another unit of this plan may be about to bind."""
    before, after = running_definition(unit, both).environment, _wanted(unit, both).environment
    return PORT in before and before[PORT] != after.get(PORT)


def moved_for_good(both: Comparison, waiting: Collection[str]) -> Problems:
    """Refuse to move what must not restart: requests would go where it does not listen."""
    return tuple(
        _must_not_move(unit.unit) for unit in both.desired.units if unit.unit in waiting and moves_port(unit, both)
    )


def _forced(unit: DesiredUnit, both: Comparison) -> Iterator[str]:
    if unit.unit in both.desired.replaced:
        yield "a restart was asked for"
    if unit.unit in both.observed.installed.owed:
        yield "an interrupted apply left it running with its old definition"


def _misplaced(unit: DesiredUnit, both: Comparison) -> Iterator[str]:
    layout = both.desired.layout
    if remembered(unit.unit, both) is not None:
        return
    if not _is_there(unit, both):
        is_link = layout.unit_path(unit.unit) in both.observed.files
        yield "a link stood in place of its unit file" if is_link else "its unit file was missing"
    elif layout.override_path(unit.unit) in both.files:
        yield "another unit file stood in its place"


def _is_there(unit: DesiredUnit, both: Comparison) -> bool:
    return isinstance(both.observed.files.get(both.desired.layout.unit_path(unit.unit)), TextFile)


def _differences(unit: DesiredUnit, both: Comparison) -> tuple[str, ...]:
    is_touched = _is_there(unit, both) and _is_touched(unit, both)
    if remembered(unit.unit, both) is None and not is_touched:
        return ()
    after = _wanted(unit, both)
    return tuple(differences(running_definition(unit, both), after))


def _is_touched(unit: DesiredUnit, both: Comparison) -> bool:
    """Say whether anything differs that could count: most units need no closer look."""
    path = both.desired.layout.unit_path(unit.unit)
    text = text_of(both.desired.tree.get(path))
    named = (path, relative(program(text), both.desired), *env_paths(text, both.desired))
    return not both.files.keys().isdisjoint(named) or not both.replaced_weights.isdisjoint(unit.weights)


def _wanted(unit: DesiredUnit, both: Comparison) -> Definition:
    desired = both.desired
    pinned = {step.destination: step.sha256 for step in desired.weights if step.destination in unit.weights}
    return definition(unit, desired.tree, pinned, desired)


def _new(unit: DesiredUnit, both: Comparison) -> Kept:
    process = both.observed.running.get(unit.unit)
    is_known = unit.unit not in both.observed.installed.owed and not tuple(_misplaced(unit, both))
    return Kept(
        main_pid=both.observed.units[unit.unit].main_pid,
        started_s=None if process is None else process.started_s,
        definition=_plain(running_definition(unit, both)) if is_known else UNKNOWN,
    )


def _plain(found: Definition) -> Definition:
    """Write bytes that are no text by their codes: the record is JSON."""
    unit, *values = (
        text.encode(errors="backslashreplace").decode() for text in (found.unit, *found.environment.values())
    )
    return replace(found, unit=unit, environment=dict(zip(found.environment, values, strict=True)))


def _must_not_move(unit: str) -> Diagnostic:
    address = unit_address(unit)
    return Diagnostic(
        code="KI556",
        summary="Port of an instance that must not restart",
        detail=f"{address} gets another port, and `on_change: never` keeps its process on the present one.",
        hint=f"Restart it with `--replace {address.partition('.')[2]}`, or give it back the port that it has.",
        address=address,
    )
