"""Plan a part only: everything that was not chosen stays as it is on the machine.

A part is planned by asking for a tree that is new where it was chosen and as observed elsewhere, so that what is
applied is whole, and a later plan sees what is still to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NamedTuple

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.artifact import Artifact, ArtifactTree, TextFile, text_of
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.generation import DesiredUnit
from kloros_infra.ir.names import instance_of, is_instance, model_of
from kloros_infra.ir.observed import Observed
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.planner.address import owner_of
from kloros_infra.planner.definitions import env_paths
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.obstacles import table_of_another_release

Names = Mapping[str, frozenset[str]]

MOST_NAMES = 8


class _Tables(NamedTuple):
    """Routing tables as they are wanted and as they are."""

    wanted: TextFile
    new: dict[str, Any]
    present: TextFile
    old: dict[str, Any]


def unit_names(catalog: Catalog | None, desired: Desired, observed: Observed) -> Names:
    """Map every name that a person may use to the units that it means: units, instances, models and their aliases."""
    layout = desired.layout
    installed = (layout.unit_at(path) for path in observed.installed.digests)
    units = {unit.unit for unit in desired.units} | {unit for unit in installed if unit is not None}
    names: dict[str, set[str]] = {unit: {unit} for unit in units}
    for unit in units:
        if is_instance(unit):
            own = instance_of(unit)
            for name in (own, model_of(own)):
                names.setdefault(name, set()).add(unit)
    for instance in catalog.instances if catalog else ():
        model = instance.model
        for name in (model.id, model.name, *model.aliases, str(instance.id)):
            names.setdefault(name, set()).add(instance.unit)
    for model_name in _with_shared_instances(desired, observed):
        together = names.get(model_name, set())
        names |= {name: together for unit in together for name in (unit, instance_of(unit))}
    return {name: frozenset(found) for name, found in names.items()}


def _with_shared_instances(desired: Desired, observed: Observed) -> frozenset[str]:
    """Name the models of which instances are one, or were: a part of them would leave a profile with two, or none."""
    installed = observed.manifest.units if observed.manifest else ()
    sharing = (unit.unit for unit in (*desired.units, *installed) if unit.further_profiles)
    return frozenset(model_of(instance_of(unit)) for unit in sharing)


def chosen_units(asked: Iterable[str], names: Names) -> tuple[frozenset[str], Problems]:
    """Find the units that names mean, and the names that mean none."""
    asked = tuple(asked)
    problems = tuple(unknown_name(name, names) for name in asked if name not in names)
    return frozenset(unit for name in asked for unit in names.get(name, ())), problems


def unknown_name(name: str, known: Iterable[str], *, kind: str = "instance, model or unit") -> Diagnostic:
    """Say that nothing is called so, and what is called nearly so, or what there is."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    listed = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    return Diagnostic(
        code="KI537",
        summary="Unknown name",
        detail=f"There is no {kind} {name!r}.",
        hint=f"Did you mean {near[0]!r}?" if near else f"There is: {listed}." if names else "There is none at all.",
    )


def part_of_another_profile(active: str) -> Diagnostic:
    """Refuse to switch the profile for a part of what it holds."""
    return Diagnostic(
        code="KI559",
        summary="A part cannot switch the profile",
        detail=f"Profile {active} is active on the target, and --only leaves what was not chosen as it is.",
        hint="Leave out --only to switch the profile, or --profile to stay with the one that is active.",
    )


def narrowed(desired: Desired, observed: Observed, units: frozenset[str]) -> Desired:
    """Ask for some units only: their files and weights, the programs that they run, and their routes."""
    env_files = _env_files(desired, observed, units)
    tree: dict[str, Artifact] = {}
    for path in sorted(desired.tree.keys() | observed.installed.digests.keys()):
        owner = owner_of(path, desired.layout)
        is_chosen = owner in units or path in env_files
        artifact = desired.tree.get(path) if is_chosen else _as_it_is(path, owner, desired, observed)
        if artifact is not None:
            tree[path] = artifact
    tables = _tables(desired, observed)
    if tables is not None:
        tree[desired.layout.routing] = _routing(tables, units)
    present = tuple(_units(desired, observed, tree, units))
    needed, left = (
        frozenset(path for unit in present if (unit.unit in units) is is_chosen for path in unit.weights)
        for is_chosen in (True, False)
    )
    return replace(
        desired,
        tree=tree,
        units=present,
        weights=tuple(step for step in desired.weights if step.destination in needed),
        other_weights=tuple(step for step in _installed_weights(observed) if step.destination in left - needed),
        derived=tuple(one for one in desired.derived if not units.isdisjoint(one.units)),
        refusals=(*desired.refusals, *_mixed_versions(tables)),
        only=units,
    )


def _as_it_is(path: str, owner: str | None, desired: Desired, observed: Observed) -> Artifact | None:
    """Keep what is installed; of what is not, take what a chosen unit cannot do without: programs and folders."""
    if path in observed.installed.digests:
        return observed.files.get(path)
    is_shared = owner is None and not path.startswith(f"{desired.layout.env}/")
    return desired.tree.get(path) if is_shared else None


def _env_files(desired: Desired, observed: Observed, units: frozenset[str]) -> frozenset[str]:
    """Find the env files that the chosen units read, now and before."""
    paths = map(desired.layout.unit_path, units)
    texts = (text_of(files.get(path)) for path in paths for files in (desired.tree, observed.files))
    return frozenset(path for text in texts for path in env_paths(text, desired))


def _units(desired: Desired, observed: Observed, tree: ArtifactTree, units: frozenset[str]) -> Iterator[DesiredUnit]:
    """Say of the units that stay what the generation says that they are in now."""
    installed = observed.manifest.units if observed.manifest else ()
    current = {unit.unit: unit.under(desired.profile) for unit in installed}
    for unit in desired.units:
        if desired.layout.unit_path(unit.unit) in tree:
            yield unit if unit.unit in units else current.get(unit.unit, unit)
    # What is no longer wanted and was not chosen stays as well.
    wanted = {unit.unit for unit in desired.units}
    for name, unit in current.items():
        if name not in wanted and desired.layout.unit_path(name) in tree:
            yield unit


def _installed_weights(observed: Observed) -> tuple[PlaceWeights, ...]:
    return observed.manifest.weights if observed.manifest else ()


def _tables(desired: Desired, observed: Observed) -> _Tables | None:
    """Read the routing table that is wanted and the one that is installed; None where one of them is none."""
    path = desired.layout.routing
    wanted, present = desired.tree.get(path), observed.files.get(path)
    if not isinstance(wanted, TextFile) or not isinstance(present, TextFile):
        return None
    new, old = _table(wanted), _table(present)
    return None if new is None or old is None else _Tables(wanted, new, present, old)


def _mixed_versions(tables: _Tables | None) -> Problems:
    """A model as one release describes it is nothing that a router of another can read."""
    if tables is None or tables.new.get("version") == tables.old.get("version"):
        return ()
    return (table_of_another_release(tables.old.get("version"), tables.new.get("version")),)


def _routing(tables: _Tables, units: frozenset[str]) -> TextFile:
    """Give the chosen units their routes, and leave all others as they are."""
    merged = {**tables.old, "models": _merged_models(tables.old["models"], tables.new["models"], units)}
    return tables.present if merged == tables.old else TextFile(f"{_json(merged)}\n", tables.wanted.mode)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def _table(file: TextFile) -> dict[str, Any] | None:
    """Read a routing table; None when it is none, as a file that was changed by hand may be."""
    try:
        table = json.loads(file.text)
    except (ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) and _has_models(table.get("models")) else None


def _has_models(models: object) -> bool:
    """Say whether a table's models are described as far as they are needed to take some and leave others."""
    if not isinstance(models, list):
        return False
    return all(
        isinstance(model, dict)
        and isinstance(model.get("id"), str)
        and isinstance(model.get("upstreams"), list)
        and all(isinstance(one, dict) and "unit" in one for one in model["upstreams"])
        for model in models
    )


def _merged_models(old: list[dict[str, Any]], new: list[dict[str, Any]], units: frozenset[str]) -> list[dict[str, Any]]:
    """Take the upstreams of the chosen units from the new models and the rest from the old ones."""
    before, after = ({model["id"]: model for model in models} for models in (old, new))
    return [
        model
        for model_id in dict.fromkeys((*before, *after))
        for model in _merged_model(before.get(model_id), after.get(model_id), units)
    ]


def _merged_model(
    old: dict[str, Any] | None, new: dict[str, Any] | None, units: frozenset[str]
) -> list[dict[str, Any]]:
    """Merge one model: none where it was not chosen and is not there, or where all that served it goes."""
    before, after = (side["upstreams"] if side else [] for side in (old, new))
    taken = {_key(one): one for one in after if one["unit"] in units}
    kept = {_key(one): one for one in before if one["unit"] not in units}
    # Where a chosen instance is served, the model is described as it is served from now on.
    described = new if taken else old
    is_gone = bool(before) and not taken and not kept
    if described is None or is_gone:
        return []
    order = map(_key, (*after, *before))
    upstreams = {**kept, **taken}
    return [{**described, "upstreams": [upstreams[key] for key in dict.fromkeys(order) if key in upstreams]}]


def _key(upstream: dict[str, Any]) -> tuple[str, str]:
    """Tell upstreams apart: a unit that several profiles share has one under each of them."""
    return upstream["unit"], str(upstream.get("profile"))
