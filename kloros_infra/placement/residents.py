"""Place all instances of one profile: those that are preloaded share its cards.

The others take what is left, or make room for themselves where that is too little.

Where the solver places several, each order of them is tried: the first has its choice, the next takes what is left.
Those that models.yaml places itself come first, as they do not give way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Protocol

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.card_share import CONTEXT_BYTES
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.devices import Device
from kloros_infra.placement.engines.interface import FIT, SOLVER, Outcome, Request
from kloros_infra.placement.place import Machine, engine_of, place_on
from kloros_infra.placement.task import preference_of

Placements = dict[InstanceId, Placement]

# All orders of so many are tried; of more, the largest first and the smallest first.
_MOST_IN_ALL_ORDERS = 3
# How much slower beside those that are preloaded an instance may be before it rather makes them give way.
_SLOWER_BESIDE = 1.25


class Answers(Protocol):
    """What engines answered before: the same request has the same outcome."""

    def find(self, request: Request) -> Outcome | None:
        """Give the answer to a request, if it is known."""
        ...

    def note(self, request: Request, outcome: Outcome) -> None:
        """Keep an answer."""
        ...


def place_profile(
    instances: Sequence[Instance], machine: Machine | None = None, answers: Answers | None = None
) -> tuple[Placements, Problems]:
    """Place the instances of one profile, in their order; only what no `answers` tell is worked out."""
    residents = _Residents(machine or Machine(), answers)
    preloaded = [instance for instance in instances if instance.serving.preload]
    residents.place_preloaded(preloaded)
    for instance in instances:
        if not instance.serving.preload:
            residents.place_on_demand(instance)
    found = {one.id: residents.outcomes[one.id] for one in instances}
    placements = {id: placement for id, (placement, _) in found.items() if placement is not None}
    return placements, tuple(problem for _, problems in found.values() for problem in problems)


@dataclass
class _Residents:
    machine: Machine
    answers: Answers | None
    outcomes: dict[InstanceId, Outcome] = field(default_factory=dict)
    taken_bytes: Mapping[str, int] = field(default_factory=dict)
    """What those that are preloaded take of each device."""
    _asked: dict[tuple[InstanceId, tuple[int | None, ...]], Outcome] = field(default_factory=dict)

    def place_preloaded(self, preloaded: Sequence[Instance]) -> None:
        fixed = [instance for instance in preloaded if engine_of(instance).name != SOLVER]
        for instance in fixed:
            self.outcomes[instance.id] = self._beside(instance, {})
        taken = _taken(self.outcomes.values())
        free = [instance for instance in preloaded if engine_of(instance).name == SOLVER]
        self.outcomes |= self._together(free, taken)
        self.taken_bytes = _taken(self.outcomes.values())

    def place_on_demand(self, instance: Instance) -> None:
        """Place an instance beside the others if it is nearly as fast there, else as if it were alone."""
        alone = self._beside(instance, {})
        beside = self._beside(instance, self.taken_bytes) if engine_of(instance).name == SOLVER else alone
        limit = _SLOWER_BESIDE * _seconds(instance, alone)
        self.outcomes[instance.id] = beside if _seconds(instance, beside) <= limit else alone

    def _together(self, instances: Sequence[Instance], taken: Mapping[str, int]) -> dict[InstanceId, Outcome]:
        best: dict[InstanceId, Outcome] = {}
        best_s = float("inf")
        for order in _orders(instances):
            found = self._one_by_one(order, taken)
            seconds = sum(_seconds(instance, found[instance.id]) for instance in instances)
            if not best or seconds < best_s * (1 - 1e-9):
                best, best_s = found, seconds
        # One that finds no room beside the others is placed alone: that both are too much is then told of both.
        return {
            instance.id: best[instance.id] if best[instance.id][0] else self._beside(instance, {})
            for instance in instances
        }

    def _one_by_one(self, order: Sequence[Instance], taken: Mapping[str, int]) -> dict[InstanceId, Outcome]:
        found: dict[InstanceId, Outcome] = {}
        for instance in order:
            found[instance.id] = self._beside(instance, _taken(found.values(), taken))
        return found

    def _beside(self, instance: Instance, taken: Mapping[str, int]) -> Outcome:
        whole = self.machine.devices(instance)
        devices = tuple(device.without(taken.get(device.name, 0)) for device in whole)
        key = (instance.id, tuple(device.usable_bytes for device in devices))
        if key not in self._asked:
            request = Request(instance, devices, self.machine.overrider_records)
            self._asked[key] = _with_capacities(self._answer(request), whole)
        return self._asked[key]

    def _answer(self, request: Request) -> Outcome:
        known = self.answers.find(request) if self.answers else None
        outcome = place_on(request) if known is None else known
        if self.answers and known is None:
            self.answers.note(request, outcome)
        return outcome


def _with_capacities(outcome: Outcome, devices: Iterable[Device]) -> Outcome:
    """Say what the cards hold for all, as the loads of several are held against it together."""
    placement, problems = outcome
    if placement is None:
        return outcome
    usable = {device.name: device.usable_bytes for device in devices}
    loads = tuple(replace(load, capacity_bytes=usable[load.device]) for load in placement.loads)
    return replace(placement, loads=loads), problems


def _orders(instances: Sequence[Instance]) -> Iterable[Sequence[Instance]]:
    if len(instances) <= _MOST_IN_ALL_ORDERS:
        return permutations(instances)
    by_size = sorted(instances, key=lambda one: (-one.model.weights.size_bytes, one.id))
    return by_size, by_size[::-1]


def _taken(outcomes: Iterable[Outcome], others: Mapping[str, int] | None = None) -> Mapping[str, int]:
    """Add up what placements take of each device, contexts included; what `fit` will take is not known."""
    found = Counter(others or {})
    for placement, _ in outcomes:
        for load in placement.loads if placement and placement.engine != FIT else ():
            found[load.device] += load.total_bytes + (CONTEXT_BYTES if load.card else 0)
    return found


def _seconds(instance: Instance, outcome: Outcome) -> float:
    placement, _ = outcome
    if placement is None or placement.predicted is None:
        return float("inf")
    predicted = placement.predicted
    return preference_of(instance).seconds(1 / predicted.prefill_tokens_per_s, 1 / predicted.decode_tokens_per_s)
