"""Which units an administrator stopped: what a start would undo behind their back.

A manager knows that a unit ended, and not who ended it. What an apply of ours ends, the current generation does not
want to run; a stop of the target that holds a unit was meant for all of them, which the next apply brings back; and
what the router has stopped it says itself, to whoever observes.
"""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.ir.generation import DesiredUnit, Manifest, Run
from kloros_infra.ir.names import LLM_TARGET, profile_target
from kloros_infra.ir.observed import Installed, UnitState


def stopped_by_hand(states: Mapping[str, UnitState], installed: Installed, manifest: Manifest | None) -> frozenset[str]:
    """Name the units that ended without failing although the current generation has them run.

    While an apply is unfinished, what ended may have been ended by it.
    """
    if manifest is None or installed.is_unfinished:
        return frozenset()
    return frozenset(
        unit.unit
        for unit in manifest.units
        if unit.run is Run.ALWAYS and _has_ended(unit.unit, states) and _is_held_up(unit, states)
    )


def _has_ended(unit: str, states: Mapping[str, UnitState]) -> bool:
    return unit.endswith(".service") and unit in states and states[unit].has_ended


def _is_held_up(unit: DesiredUnit, states: Mapping[str, UnitState]) -> bool:
    """Say whether a target is up that the unit is meant to run with."""
    holders = tuple(map(profile_target, unit.profiles)) or (LLM_TARGET,)
    return any(holder in states and states[holder].is_active for holder in holders)
