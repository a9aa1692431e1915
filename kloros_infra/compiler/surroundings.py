"""What an instance's unit says of other instances, worked out for all of them at once.

Each instance could look through the whole catalog for its neighbours; with a thousand of them, that would be a million
looks. Instances of a profile have the same neighbours but for those of their own model.

Instances of one model get in each other's way where they lie on the same devices. Where they do not, one starts under
the next profile while the other finishes what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.ir.catalog import Catalog, Instance, Profile, Sandbox
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.engines.interface import FIT

HOST = "the host"
"""Its memory; no card can be called so."""

Placements = Mapping[InstanceId, Placement]
Rivals = Mapping[InstanceId, list[Instance]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that an instance's unit takes from the catalog beside the instance; lists of units are as units have them."""

    sandbox: Sandbox
    systemd_version: int
    conflicts: str
    after: str


def surroundings(catalog: Catalog, placements: Placements) -> Mapping[InstanceId, Surroundings]:
    """Find the neighbours of every instance that has a unit of its own."""
    sandbox, version = catalog.sandbox, catalog.systemd_version
    family = families(_written(catalog))
    apart = beside(catalog, placements)
    rivals = {
        one.id: [other for other in family[one.model.id] if other is not one and other not in apart[one.id]]
        for one in _written(catalog)
    }
    return {
        one.id: Surroundings(sandbox, version, unit_list(rivals[one.id]), after)
        for one, after in zip(_written(catalog), _predecessors(catalog, rivals), strict=True)
    }


def beside(catalog: Catalog, placements: Placements) -> Mapping[InstanceId, tuple[Instance, ...]]:
    """Find, for each instance that has a unit of its own, the same model's others that can run beside it.

    They have none of its cards, and are not in the host's memory where it is.
    """
    written = tuple(_written(catalog))
    taken = {one.id: _devices(placements.get(one.id)) for one in written}
    family = families(written)
    return {one.id: tuple(other for other in family[one.model.id] if _are_apart(taken, one, other)) for one in written}


def _are_apart(taken: Mapping[InstanceId, frozenset[str] | None], one: Instance, other: Instance) -> bool:
    devices, others = taken[one.id], taken[other.id]
    return devices is not None and others is not None and devices.isdisjoint(others)


def _devices(placement: Placement | None) -> frozenset[str] | None:
    """Name the cards that an instance takes, and the host where layers or experts stay there; None if unknown.

    The input's matrix lies in the host's memory in any case; it is read from the file, and small.
    """
    if placement is None or placement.engine == FIT:
        return None
    holding = {*placement.layer_devices, *(exception.device for exception in placement.exceptions)}
    return frozenset(load.card or HOST for load in placement.loads if load.card is not None or CPU in holding)


def unit_list(instances: Iterable[Instance]) -> str:
    """Write the units of instances as a list, sorted, each once."""
    return " ".join(sorted({instance.unit for instance in instances}))


def _written(catalog: Catalog) -> Iterator[Instance]:
    return (one for one in catalog.instances if one.shared_with is None)


def _predecessors(catalog: Catalog, rivals: Rivals) -> Iterator[str]:
    """List instances of earlier profiles whose cards or memory this one may be waiting for.

    A unit that stops and one that starts are ordered by After= in either direction, stop first (systemd.unit(5)), so
    that a profile switch frees VRAM before it fills it. One direction also keeps a stop of all of them free of cycles.
    """
    rank = {profile.name: place for place, profile in enumerate(catalog.profiles)}
    sharers = _card_sharers(catalog)
    texts = {name: " ".join(sorted(units)) for name, units in sharers.items()}
    for instance in _written(catalog):
        name = instance.profile.name
        before = {one.unit for one in rivals[instance.id] if rank[one.profile.name] < rank[name]}
        yield texts[name] if before <= sharers[name] else " ".join(sorted(before | sharers[name]))


def _card_sharers(catalog: Catalog) -> dict[str, frozenset[str]]:
    """Find, for each profile, the units of earlier ones that use a card of its own; what it runs itself stays."""
    members: dict[str, list[str]] = {profile.name: [] for profile in catalog.profiles}
    for instance in catalog.instances:
        members[instance.profile.name].append(instance.unit)
    found: dict[str, frozenset[str]] = {}
    earlier: list[Profile] = []
    for profile in catalog.profiles:
        sharing = (one.name for one in earlier if not set(one.cards).isdisjoint(profile.cards))
        found[profile.name] = frozenset(unit for name in sharing for unit in members[name]) - set(members[profile.name])
        earlier.append(profile)
    return found


def families(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    """Gather the instances of each model."""
    found: dict[str, list[Instance]] = {}
    for instance in instances:
        found.setdefault(instance.model.id, []).append(instance)
    return found
