"""Which other units a job touches, and in which order: over the units that are known, never over processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kloros_infra.supervisor.unit_file import UnitFile

Units = Mapping[str, UnitFile]
Waves = tuple[tuple[str, ...], ...]


def pulled_in(units: Units, unit: str) -> frozenset[str]:
    """Give the unit and everything it wants or requires, and so on; names nobody knows are left out."""
    found: set[str] = set()
    waiting = [unit]
    while waiting:
        name = waiting.pop()
        if name in units and name not in found:
            found.add(name)
            waiting += units[name].names("Wants", "Requires", "BindsTo")
    return frozenset(found)


def stopped_with(units: Units, unit: str) -> frozenset[str]:
    """Give the unit and everything that is part of it or cannot be without it, and so on."""
    found = {unit}
    while True:
        more = {name for name, file in units.items() if found & set(file.names("PartOf", "Requires", "BindsTo"))}
        if more <= found:
            return frozenset(found)
        found |= more


def conflicting(units: Units, starting: Collection[str]) -> frozenset[str]:
    """Give the units that cannot run beside those; a conflict counts whichever side declares it."""
    declared = {other for name in starting if name in units for other in units[name].names("Conflicts")}
    declaring = {name for name, file in units.items() if set(file.names("Conflicts")) & set(starting)}
    return frozenset((declared | declaring) - set(starting))


def waves(units: Units, names: Collection[str]) -> Waves:
    """Order names so that each comes after those that After= and Before= put in front of it.

    What has no order between itself is in one wave, sorted. Of a circle, the rest makes the last wave.
    """
    before = {name: predecessors(units, name, names) for name in names}
    ordered: list[tuple[str, ...]] = []
    done: set[str] = set()
    while len(done) < len(before):
        free = {name for name, earlier in before.items() if name not in done and earlier <= done}
        wave = free or before.keys() - done
        ordered.append(tuple(sorted(wave)))
        done |= wave
    return tuple(ordered)


def predecessors(units: Units, name: str, among: Collection[str]) -> frozenset[str]:
    """Give those of `among` that must be up before `name`."""
    after = set(units[name].names("After")) if name in units else set()
    before = {other for other in among if other in units and name in units[other].names("Before")}
    return frozenset((after | before) & (set(among) - {name}))
