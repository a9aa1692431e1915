"""Look at a machine: what plan compares with what we want. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kloros_infra.executor.generations import current_manifest
from kloros_infra.executor.ports import Generations, ServiceManager, TargetFiles, WeightsStore
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState, Observed, UnitState


@dataclass(frozen=True, slots=True)
class Observable:
    """What can be looked at; without a manager no unit is, and nothing will be planned for any."""

    files: TargetFiles
    generations: Generations
    weights: WeightsStore
    manager: ServiceManager | None


def observe(where: Observable, *, paths: Collection[str], layout: Layout) -> Observed:
    """Read `paths` and everything that earlier applies installed, the units among them, and the store."""
    files, manager, generations = where.files, where.manager, where.generations
    installed = files.installed()
    # A path of `paths` that is a unit's is looked at where a file would override it, too.
    overrides = (layout.override_path(unit) for path in paths if (unit := layout.unit_at(path)) is not None)
    concerned = sorted({*paths, *installed.digests, *overrides})
    found = {path: artifact for path in concerned if (artifact := files.read(path)) is not None}
    ours = {*paths, *installed.digests}
    units = tuple(sorted({unit for path in ours if (unit := layout.unit_at(path)) is not None}))
    states = manager.states(units) if manager is not None and units else {}
    # A manager knows nothing of a unit whose file it has not read yet.
    unknown = () if manager is None else (unit for unit in units if unit not in states)
    return Observed(
        files=found,
        installed=installed,
        weights=where.weights.verified(),
        history=generations.history(),
        manifest=current_manifest(generations),
        units={**states, **{unit: UnitState(unit, ActiveState.INACTIVE) for unit in unknown}},
    )
