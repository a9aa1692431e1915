"""What carrying a plan out costs meanwhile, told from its steps and from what runs.

Steps are walked in order on a clock of estimates: stopping takes no time, starting takes the loading of the weights.
Where an instance follows another of the same model, as after a change of the profile, the model is down in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kloros_infra.ir.artifact import Artifact, TextFile
from kloros_infra.ir.card_share import CARD_SHARES_KEY, MIB, CardShare, read_shares
from kloros_infra.ir.generation import DesiredUnit, Run
from kloros_infra.ir.impact import CardMemory, Impact, UnitImpact
from kloros_infra.ir.observed import Observed
from kloros_infra.ir.plan import Plan, RestartUnit, StartUnit, Step, StopUnit
from kloros_infra.planner.cost import expected_load_s
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.detours import Outage, detours
from kloros_infra.planner.unit_changes import PORT, Comparison, environment
from kloros_infra.planner.unit_keys import unit_keys, unquoted


def impact(steps: Iterable[Step], both: Comparison) -> Impact:
    """Estimate what a plan's steps do to a machine; requests in flight are asked for later."""
    wanted = {unit.unit: unit for unit in both.desired.units}
    timeline = _timeline(steps, wanted)
    running = frozenset(name for name, state in both.observed.units.items() if state.is_active)
    outages = tuple(_outages(timeline, running))
    seconds = {outage.unit: outage.seconds for outage in outages}
    return Impact(
        units=tuple(
            UnitImpact(
                unit,
                seconds_down=seconds.get(unit, 0.0),
                read_bytes=wanted[unit].load_bytes if unit in timeline.ready else 0,
                is_interrupted=unit in running and unit in timeline.stopped,
            )
            for unit in timeline.units
        ),
        cards=card_memories(both, running, frozenset(timeline.stopped)),
        detours=detours(both.desired, outages, running),
        reduced_s=_union(outages),
    )


def with_requests(plan: Plan, requests: Mapping[str, int]) -> Plan:
    """Add how many requests each unit is answering, as far as it could be asked."""
    units = tuple(replace(unit, requests=requests.get(unit.unit)) for unit in plan.impact.units)
    return replace(plan, impact=replace(plan.impact, units=units))


def metrics_urls(plan: Plan, desired: Desired, observed: Observed) -> Mapping[str, str]:
    """Say where the instances that a plan interrupts tell how many requests they answer, by unit.

    They are asked on the port that they have now, which may not be the one that they get.
    """
    found: dict[str, str] = {}
    for unit in plan.impact.units:
        port = unquoted(environment(unit.unit, observed.files, desired).get(PORT, "")) if unit.is_interrupted else ""
        if port.isdecimal():
            found[unit.unit] = f"http://127.0.0.1:{port}/metrics"
    return found


@dataclass(frozen=True, slots=True)
class _Timeline:
    """When services stop and when they answer, in seconds from the first step."""

    units: tuple[str, ...]
    stopped: Mapping[str, float]
    ready: Mapping[str, float]


def _timeline(steps: Iterable[Step], wanted: Mapping[str, DesiredUnit]) -> _Timeline:
    now = 0.0
    stopped: dict[str, float] = {}
    ready: dict[str, float] = {}
    for step in steps:
        if not isinstance(step, StopUnit | RestartUnit | StartUnit) or not step.unit.endswith(".service"):
            continue
        if not isinstance(step, StartUnit):
            stopped[step.unit] = now
        if not isinstance(step, StopUnit):
            now += expected_load_s(wanted[step.unit].load_bytes)
            ready[step.unit] = now
    return _Timeline(tuple(dict.fromkeys((*stopped, *ready))), stopped, ready)


def _outages(timeline: _Timeline, running: frozenset[str]) -> Iterator[Outage]:
    """Find what answered before and will again, and the time between."""
    begun: dict[str, float] = {}
    for unit, at in timeline.stopped.items():
        if unit in running:
            served = _served(unit)
            begun[served] = min(at, begun.get(served, at))
    for unit, end in timeline.ready.items():
        if _served(unit) in begun:
            yield Outage(unit, begun[_served(unit)], end)


def _served(unit: str) -> str:
    """Name what a unit serves: an instance its model, whatever the profile (no profile's name has a hyphen)."""
    return unit.rpartition("-")[0] if unit.startswith("llama@") else unit


def _union(outages: Iterable[Outage]) -> float:
    total, until = 0.0, 0.0
    for outage in sorted(outages, key=lambda outage: outage.begin_s):
        total += max(0.0, outage.end_s - max(outage.begin_s, until))
        until = max(until, outage.end_s)
    return total


def card_memories(both: Comparison, running: frozenset[str], stopped: frozenset[str]) -> tuple[CardMemory, ...]:
    """Add up what instances take of each card, now and once the plan is carried out."""
    desired, observed = both.desired, both.observed
    before = [share for unit in running for share in _shares(unit, observed.files, both)]
    staying = running - stopped
    later = {unit.unit for unit in desired.units if _runs_later(unit, staying) and desired.acts_on(unit.unit)}
    kept = {unit for unit in staying if not desired.acts_on(unit)}
    after = [share for unit in later for share in _shares(unit, desired.tree, both)]
    after += [share for unit in kept for share in _shares(unit, observed.files, both)]
    return tuple(_memory(card, before if observed.units else None, after) for card in _cards((*before, *after)))


def _runs_later(unit: DesiredUnit, staying: frozenset[str]) -> bool:
    return unit.run is Run.ALWAYS or (unit.run is Run.ON_DEMAND and unit.unit in staying)


def _shares(unit: str, files: Mapping[str, Artifact], both: Comparison) -> tuple[CardShare, ...]:
    artifact = files.get(both.desired.layout.unit_path(unit)) if unit.startswith("llama@") else None
    if not isinstance(artifact, TextFile):
        return ()
    return read_shares(unit_keys(artifact.text).get(f"Unit.{CARD_SHARES_KEY}", ""))


def _cards(shares: Iterable[CardShare]) -> tuple[str, ...]:
    return tuple(sorted({share.card for share in shares}))


def _memory(card: str, before: list[CardShare] | None, after: list[CardShare]) -> CardMemory:
    known = [share for share in (*(before or ()), *after) if share.card == card]
    return CardMemory(
        card,
        before_bytes=None if before is None else _used_bytes(card, before),
        after_bytes=_used_bytes(card, after),
        # The newest word on how much the card holds: `after` stands last.
        capacity_bytes=known[-1].capacity_mib * MIB,
    )


def _used_bytes(card: str, shares: Iterable[CardShare]) -> int:
    return MIB * sum(share.used_mib for share in shares if share.card == card)
