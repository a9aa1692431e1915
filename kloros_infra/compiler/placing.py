"""Every instance of a catalog → its placement, and the places in models.yaml of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.devices import NO_CORRECTIONS, Corrections
from kloros_infra.placement.place import Machine, check_together
from kloros_infra.placement.problems import address_of
from kloros_infra.placement.remote import numbered
from kloros_infra.placement.remote_check import crowded_cards
from kloros_infra.placement.residents import Answers, place_profile


def place_all(
    catalog: Catalog,
    corrections: Corrections = NO_CORRECTIONS,
    *,
    overrider_records: Mapping[str, str] | None = None,
    answers: Answers | None = None,
) -> tuple[Mapping[InstanceId, Placement], Problems]:
    """Place every instance, those of a profile together, then check that those which it preloads fit side by side.

    `corrections` are what was measured on the host, `overrider_records` what the external tool answered, and `answers`
    what engines answered before.
    """
    placements: dict[InstanceId, Placement] = {}
    problems: list[Diagnostic] = []
    machine = Machine(catalog.memory, corrections, overrider_records or {})
    for profile in catalog.profiles:
        found, more = place_profile([i for i in catalog.instances if i.profile == profile], machine, answers)
        placements |= found
        problems += more
        preloaded = {i.id for i in catalog.instances if i.profile == profile and i.serving.preload}
        problems += check_together({id: one for id, one in placements.items() if id in preloaded})
    problems += crowded_cards([(one, placements[one.id]) for one in catalog.instances if one.id in placements])
    in_file_order = {
        one.id: numbered(placements[one.id], one, catalog.rpc_hosts)
        for one in catalog.instances
        if one.id in placements
    }
    return in_file_order, tuple(problems)


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
