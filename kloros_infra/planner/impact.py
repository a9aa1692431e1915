"""What carrying a plan out costs meanwhile, told from its steps and from what runs.

Steps are walked in order on a clock of estimates: stopping takes no time, starting takes the loading of the weights.
Where an instance follows another of the same model, as after a change of the profile, the model is down in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from kloros_infra.ir.card_share import MIB, CardShare
from kloros_infra.ir.generation import DesiredUnit, Run
from kloros_infra.ir.impact import CardMemory, Impact, UnitImpact
from kloros_infra.ir.load_time import expected_load_s
from kloros_infra.ir.names import is_instance, model_of
from kloros_infra.ir.observed import Observed
from kloros_infra.ir.plan import Plan, ReloadManager, RestartUnit, StartUnit, Step, StopUnit
from kloros_infra.planner.card_use import desired_shares, running_shares
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.definitions import PORT, environment
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.detours import Outage, detours


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
        cards=card_memories(both, timeline.stopped.keys(), timeline.ready.keys()),
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
        port = environment(unit.unit, observed.files, desired).get(PORT, "") if unit.is_interrupted else ""
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
    """Units that start one after another without a wait between them are a wave: they read from one disk together."""
    now = 0.0
    stopped: dict[str, float] = {}
    ready: dict[str, float] = {}
    wave: list[str] = []
    for step in (*steps, ReloadManager()):
        if wave and not isinstance(step, StartUnit):
            now += expected_load_s(sum(wanted[unit].load_bytes for unit in wave))
            ready |= dict.fromkeys(wave, now)
            wave = []
        if isinstance(step, StopUnit | RestartUnit | StartUnit) and step.unit.endswith(".service"):
            if not isinstance(step, StartUnit):
                stopped[step.unit] = now
            if not isinstance(step, StopUnit):
                wave.append(step.unit)
    return _Timeline(tuple(dict.fromkeys((*stopped, *ready))), stopped, ready)


def _outages(timeline: _Timeline, running: frozenset[str]) -> Iterator[Outage]:
    """Find what answered before and will again, and the time between."""
    begun: dict[str, float] = {}
    for unit, at in timeline.stopped.items():
        if unit in running:
            served = _served(unit)
            begun[served] = min(at, begun.get(served, at))
    for unit, end in timeline.ready.items():
        if begun.get(_served(unit), end) < end:
            yield Outage(unit, begun[_served(unit)], end)


def _served(unit: str) -> str:
    """Name what a unit serves: an instance its model, whatever the profile."""
    return model_of(unit) if is_instance(unit) else unit


def _union(outages: Iterable[Outage]) -> float:
    total, until = 0.0, 0.0
    for outage in sorted(outages, key=lambda outage: outage.begin_s):
        total += max(0.0, outage.end_s - max(outage.begin_s, until))
        until = max(until, outage.end_s)
    return total


def card_memories(both: Comparison, stopped: Collection[str], started: Collection[str]) -> tuple[CardMemory, ...]:
    """Add up what instances take of each card, now and once the plan is carried out; what stays down takes nothing."""
    up = [name for name, state in both.observed.units.items() if state.is_up]
    if not both.observed.units:
        started = [unit.unit for unit in both.desired.units if unit.run is Run.ALWAYS]
    before = [share for unit in up for share in running_shares(unit, both)]
    after = [share for unit in started for share in desired_shares(unit, both)]
    after += [share for unit in up if unit not in {*stopped, *started} for share in _shares_later(unit, both)]
    return tuple(_memory(card, before if both.observed.units else None, after) for card in _cards((*before, *after)))


def _shares_later(unit: str, both: Comparison) -> tuple[CardShare, ...]:
    """Say what an instance that goes on running takes: of one that nothing differs for, the newest estimate."""
    is_former = unit in both.kept or not both.desired.acts_on(unit)
    return running_shares(unit, both) if is_former else desired_shares(unit, both)


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
