"""Who serves a purpose while its first choice is down: what the router will do, told from the new routing table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.impact import Detour
from kloros_infra.ir.routing import RoutedPurpose, RoutingTable
from kloros_infra.planner.desired import Desired


@dataclass(frozen=True, slots=True)
class Outage:
    """A unit that does not answer from `begin_s` to `end_s`, counted from the first step."""

    unit: str
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s

    def overlaps(self, other: Outage) -> bool:
        """Say whether both are down at some moment."""
        return self.begin_s < other.end_s and other.begin_s < self.end_s


def detours(desired: Desired, outages: Iterable[Outage], running: frozenset[str]) -> tuple[Detour, ...]:
    """Find the purposes whose first choice is down for a while; none where there is no routing table of ours."""
    table = _table(desired)
    found = {outage.unit: outage for outage in outages}
    if table is None or not found:
        return ()
    return tuple(
        detour
        for purpose in table.purposes
        for detour in _detour(purpose.name, _choices(purpose, table, desired.profile), found, running)
    )


def _table(desired: Desired) -> RoutingTable | None:
    artifact = desired.tree.get(desired.layout.routing)
    if not isinstance(artifact, TextFile):
        return None
    try:
        return RoutingTable.model_validate_json(artifact.text)
    except ValidationError:
        # Of another version, where a generation is gone back to: what it says cannot be told.
        return None


def _choices(purpose: RoutedPurpose, table: RoutingTable, profile: str) -> tuple[str, ...]:
    """List the units that serve a purpose, best first: its candidates, then those of each `otherwise`."""
    declared = {known.name: known for known in table.purposes}
    upstreams = {model.id: model.upstream(profile) for model in table.models}
    units: dict[str, None] = {}
    name: str | None = purpose.name
    while name is not None and (known := declared.pop(name, None)) is not None:
        for candidate in known.candidates:
            upstream = upstreams.get(candidate)
            if upstream is not None:
                units[upstream.unit] = None
        name = known.otherwise
    return tuple(units)


def _detour(
    purpose: str, units: tuple[str, ...], outages: Mapping[str, Outage], running: frozenset[str]
) -> Iterator[Detour]:
    # Who neither runs nor comes back serves nothing, now or later.
    first = next((unit for unit in units if unit in running or unit in outages), None)
    if first is None or first not in outages:
        return
    stand_ins = (unit for unit in units if unit in running and _answers_during(unit, outages[first], outages))
    stand_in = next(stand_ins, None)
    yield Detour(purpose, first, stand_in)


def _answers_during(unit: str, outage: Outage, outages: Mapping[str, Outage]) -> bool:
    return unit not in outages or not outages[unit].overlaps(outage)
