"""Every instance of a catalog → its placement, and the places in models.yaml of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kloros_infra.compiler.kept_instances import KeptInstance
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.place import check_together, place
from kloros_infra.placement.problems import address_of


def place_all(
    catalog: Catalog, known: Mapping[InstanceId, KeptInstance] = MappingProxyType({})
) -> tuple[Mapping[InstanceId, Placement], Problems]:
    """Place every instance that is not `known`, then check that those which a profile preloads fit side by side."""
    placements: dict[InstanceId, Placement] = {}
    problems: list[Diagnostic] = []
    for instance in catalog.instances:
        kept = known.get(instance.id)
        placement, found = place(instance) if kept is None else (kept.placement, kept.warnings)
        problems += found
        if placement is not None:
            placements[instance.id] = placement
    for profile in catalog.profiles:
        preloaded = {i.id for i in catalog.instances if i.profile == profile and i.serving.preload}
        problems += check_together({id: one for id, one in placements.items() if id in preloaded})
    return placements, tuple(problems)


def located(problems: Problems, parsed: Parsed, catalog: Catalog) -> Problems:
    """Give what placement found its place in models.yaml."""
    models = {model.id: index for index, model in enumerate(parsed.config.models)}
    places: dict[str, Address] = {
        f"profiles.{profile.name}": ("profiles", profile.name) for profile in catalog.profiles
    }
    for instance in catalog.instances:
        address = ("models", models[instance.model.id], "profiles", instance.profile.name)
        places[address_of(instance)] = address
    return tuple(parsed.locate(problem, places[problem.address], at_key=True) for problem in problems)
