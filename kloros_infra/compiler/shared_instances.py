"""Instances of several profiles that are one unit: the same model, started alike under each of them.

A switch between such profiles leaves the process alone. A port that models.yaml gives is kept, so only an instance
that is given none can be an earlier profile's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from kloros_infra.compiler.emit import emit_instance_texts
from kloros_infra.compiler.emit_routing import upstream
from kloros_infra.compiler.rendering import Rendering
from kloros_infra.compiler.surroundings import Surroundings, families
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement

Placements = Mapping[InstanceId, Placement]


def share_instances(catalog: Catalog, placements: Placements, prepared: Rendering) -> Catalog:
    """Let instances without a port of their own be those of the best profile where all that is written is alike."""
    rank = {profile.name: place for place, profile in enumerate(catalog.profiles)}
    alike = _Alike(catalog, placements, prepared)
    shared = {
        one.id: replace(one, port=owner.port, shared_with=owner.id)
        for family in families(catalog.instances).values()
        for one, owner in _pairs(sorted(family, key=lambda one: rank[one.profile.name]), alike)
    }
    if not shared:
        return catalog
    return replace(catalog, instances=tuple(shared.get(one.id, one) for one in catalog.instances))


def _pairs(best_first: Iterable[Instance], alike: _Alike) -> Iterator[tuple[Instance, Instance]]:
    """Find, for each instance of a model that needs no unit of its own, the one whose unit serves it."""
    owners: list[Instance] = []
    for one in best_first:
        owner = None if one.has_own_port else next((other for other in owners if alike.are(other, one)), None)
        if owner is None:
            owners.append(one)
        else:
            yield one, owner


class _Alike:
    """Compares instances by what would be written of them, under one name and port, and among no others."""

    def __init__(self, catalog: Catalog, placements: Placements, prepared: Rendering) -> None:
        self._placements, self._prepared = placements, prepared
        self._around = Surroundings(catalog.sandbox, catalog.systemd_version, conflicts="", after="")

    def are(self, owner: Instance, other: Instance) -> bool:
        """Say whether both are placed, and all that is written of them is the same."""
        if owner.id not in self._placements or other.id not in self._placements:
            return False
        profile = replace(other.profile, name=owner.profile.name)
        renamed = replace(other, id=owner.id, port=owner.port, profile=profile)
        return self._written(owner, self._placements[owner.id]) == self._written(renamed, self._placements[other.id])

    def _written(self, instance: Instance, placement: Placement) -> tuple[object, ...]:
        # How fast it is foreseen to be is said to people alone.
        placement = replace(placement, predicted=None)
        texts = emit_instance_texts(instance, placement, self._around, self._prepared)
        return texts, upstream(instance, placement, texts, self._prepared.layout)
