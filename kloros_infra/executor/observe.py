"""Look at a machine: what plan compares with what we want. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from kloros_infra.executor.generations import current_manifest
from kloros_infra.executor.ports import (
    Generations,
    RouterStops,
    RunningProcesses,
    ServiceManager,
    TargetFiles,
    WeightsStore,
)
from kloros_infra.ir.artifact import Artifact, TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import is_instance
from kloros_infra.ir.observed import ActiveState, Observed, UnitState
from kloros_infra.ir.running import RunningProcess
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.ir.unit_keys import env_keys
from kloros_infra.planner.file_changes import MASK, with_generation
from kloros_infra.planner.held import stopped_by_hand
from kloros_infra.planner.running_drift import STEERING_PREFIXES


@dataclass(frozen=True, slots=True)
class Observable:
    """What can be looked at; without a manager no unit is, and nothing will be planned for any."""

    files: TargetFiles
    generations: Generations
    weights: WeightsStore
    manager: ServiceManager | None
    processes: RunningProcesses | None = None
    router_stops: RouterStops | None = None


def observe(where: Observable, *, paths: Collection[str], layout: Layout) -> Observed:
    """Read `paths` and everything that is ours by the record or the generation, its units, and the store."""
    manifest = current_manifest(where.generations)
    installed = with_generation(where.files.installed(), manifest, layout)
    # A path of `paths` that is a unit's is looked at where a file would override it, too.
    overrides = (layout.override_path(unit) for path in paths if (unit := layout.unit_at(path)) is not None)
    found, unreadable = _read(where.files, {*paths, *installed.digests, *overrides})
    ours = {*paths, *installed.digests}
    names = tuple(sorted({unit for path in ours if (unit := layout.unit_at(path)) is not None}))
    units = {} if where.manager is None else _units(where.manager, names)
    ended = stopped_by_hand(units, installed, manifest)
    # Most often nothing has ended, and nobody needs to be asked.
    causes = where.router_stops() if where.router_stops is not None and any(map(is_instance, ended)) else None
    drop_ins = {path.removeprefix(layout.absolute("")) for state in units.values() for path in state.drop_ins}
    return Observed(
        files=found | _read(where.files, drop_ins)[0],
        installed=installed,
        weights=where.weights.verified(),
        history=where.generations.history(),
        manifest=manifest,
        units=dict(_held(units, found, {name: (causes or {}).get(name) for name in ended}, layout=layout)),
        running=_running(where.processes, units, found, layout=layout),
        unreadable=unreadable,
        has_manager=where.manager is not None,
        has_router_said=causes is not None,
    )


def _read(files: TargetFiles, paths: Collection[str]) -> tuple[dict[str, Artifact], tuple[str, ...]]:
    """Read what is there; a plan needs no rights, so what may not be read is listed."""
    found: dict[str, Artifact] = {}
    unreadable: list[str] = []
    for path in sorted(paths):
        try:
            artifact = files.read(path)
        except PermissionError:
            unreadable.append(path)
            continue
        if artifact is not None:
            found[path] = artifact
    return found, tuple(unreadable)


def _units(manager: ServiceManager, names: tuple[str, ...]) -> Mapping[str, UnitState]:
    """Ask for states; a manager knows nothing of a unit whose file it has not read yet."""
    states = manager.states(names) if names else {}
    return {name: states.get(name) or UnitState(name, ActiveState.INACTIVE) for name in names}


def _held(
    units: Mapping[str, UnitState],
    files: Mapping[str, Artifact],
    ended: Mapping[str, StopCause | None],
    *,
    layout: Layout,
) -> Iterator[tuple[str, UnitState]]:
    """Say what keeps units from running; `ended` are those that ended, with the router's reason where it was that."""
    for name, state in units.items():
        is_masked = state.is_masked or files.get(layout.override_path(name)) == MASK
        cause = ended.get(name)
        is_by_hand = name in ended and cause is None
        yield name, replace(state, is_masked=is_masked, is_stopped_by_hand=is_by_hand, stopped_for=cause)


def _running(
    processes: RunningProcesses | None, units: Mapping[str, UnitState], files: Mapping[str, Artifact], *, layout: Layout
) -> dict[str, RunningProcess]:
    if processes is None:
        return {}
    env_files = (file for path, file in files.items() if path.startswith(f"{layout.env}/"))
    names = frozenset(name for file in env_files if isinstance(file, TextFile) for name in env_keys(file.text))
    found = (
        (name, processes.running(state.main_pid, names=names, prefixes=STEERING_PREFIXES))
        for name, state in units.items()
        if state.is_active and state.main_pid
    )
    return {name: process for name, process in found if process is not None}
