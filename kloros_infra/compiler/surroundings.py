"""What an instance's unit says of other instances, worked out for all of them at once.

Each instance could look through the whole catalog for its neighbours; with a thousand of them, that would be a million
looks. Instances of a profile have the same neighbours but for those of their own model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.ir.catalog import Catalog, Instance, Profile, Sandbox
from kloros_infra.ir.names import InstanceId


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that an instance's unit takes from the catalog beside the instance; lists of units are as units have them."""

    sandbox: Sandbox
    systemd_version: int
    conflicts: str
    after: str


def surroundings(catalog: Catalog) -> Mapping[InstanceId, Surroundings]:
    """Find every instance's neighbours."""
    sandbox, version = catalog.sandbox, catalog.systemd_version
    return {
        instance.id: Surroundings(sandbox, version, conflicts, after)
        for (instance, conflicts), after in zip(_conflicts(catalog), _predecessors(catalog), strict=True)
    }


def unit_list(instances: Iterable[Instance]) -> str:
    """Write the units of instances as a list, sorted."""
    return " ".join(sorted(instance.id.unit for instance in instances))


def _conflicts(catalog: Catalog) -> Iterator[tuple[Instance, str]]:
    """List the same model's instances under other profiles: only one of them runs."""
    family = _families(catalog)
    for instance in catalog.instances:
        yield instance, unit_list(one for one in family[instance.model.id] if one.profile != instance.profile)


def _predecessors(catalog: Catalog) -> Iterator[str]:
    """List instances of earlier profiles whose cards or port this one may be waiting for.

    A unit that stops and one that starts are ordered by After= in either direction, stop first (systemd.unit(5)), so
    that a profile switch frees VRAM before it fills it. One direction also keeps a stop of all of them free of cycles.
    """
    rank = {profile.name: place for place, profile in enumerate(catalog.profiles)}
    family, sharers = _families(catalog), _card_sharers(catalog)
    texts = {name: " ".join(sorted(units)) for name, units in sharers.items()}
    for instance in catalog.instances:
        name = instance.profile.name
        before = {one.id.unit for one in family[instance.model.id] if rank[one.profile.name] < rank[name]}
        yield texts[name] if before <= sharers[name] else " ".join(sorted(before | sharers[name]))


def _card_sharers(catalog: Catalog) -> dict[str, frozenset[str]]:
    """Find, for each profile, the units of earlier ones that use a card of its own."""
    members: dict[str, list[str]] = {profile.name: [] for profile in catalog.profiles}
    for instance in catalog.instances:
        members[instance.profile.name].append(instance.id.unit)
    found: dict[str, frozenset[str]] = {}
    earlier: list[Profile] = []
    for profile in catalog.profiles:
        sharing = (one.name for one in earlier if not set(one.cards).isdisjoint(profile.cards))
        found[profile.name] = frozenset(unit for name in sharing for unit in members[name])
        earlier.append(profile)
    return found


def _families(catalog: Catalog) -> dict[str, list[Instance]]:
    found: dict[str, list[Instance]] = {}
    for instance in catalog.instances:
        found.setdefault(instance.model.id, []).append(instance)
    return found
