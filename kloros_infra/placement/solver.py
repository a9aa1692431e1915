"""Find the fastest plan that fits: all micro-batches and cache types, with runs of layers and with experts elsewhere.

The answer is held against the memory model as a whole; where that says that a device is too full, the device is taken
for smaller by as much, and the search is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from math import ceil, inf

from kloros_infra.ir.placement import DeviceLoad
from kloros_infra.placement.costs import costs_between
from kloros_infra.placement.devices import Device
from kloros_infra.placement.memory import Workload
from kloros_infra.placement.plan_loads import beside_bytes, loads_of
from kloros_infra.placement.solve_dense import solve_runs
from kloros_infra.placement.solve_experts import Candidate, by_last, candidates, cutoff_of, is_worth_it, solve_candidate
from kloros_infra.placement.solve_space import Found, Limits, Space
from kloros_infra.placement.speed import Assignment, Speed, speed_of
from kloros_infra.placement.task import Task

# What a larger micro-batch or another type must save, as a share, to be taken instead of what is wanted more.
_MICRO_BATCH_SAVES, _CACHE_TYPE_SAVES = 0.001, 0.02
_CONTEXT_STEP = 1024

Search = Callable[[Space], Found | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done for a task: `seconds` are weighed by its preference, `gap` is what another could save."""

    work: Workload
    assignment: Assignment
    loads: tuple[DeviceLoad, ...]
    speed: Speed
    seconds: float
    gap: float

    @property
    def fits(self) -> bool:
        return all(load.fits for load in self.loads)


def solve(task: Task, limits: Limits | None = None) -> Plan | None:
    """Find the best plan; None where not even the CPU's memory is enough."""
    limits = limits or Limits()
    plan = _solve(task, limits)
    least = task.min_context_tokens
    if least is None or least >= task.work.context_tokens or (plan and not plan.assignment.uses_cpu):
        return plan
    return _with_less_context(task, least, limits) or plan


def _with_less_context(task: Task, least: int, limits: Limits) -> Plan | None:
    """Find the longest context with which the whole model is on the cards; None where there is none."""
    best: Plan | None = None
    low, high = ceil(least / _CONTEXT_STEP), (task.work.context_tokens - 1) // _CONTEXT_STEP
    while low <= high:
        middle = (low + high + 1) // 2 if best else low
        plan = _solve(task.with_context(max(least, middle * _CONTEXT_STEP)), limits)
        if plan is not None and not plan.assignment.uses_cpu:
            best, low = plan, middle + 1
        elif best is None:
            return None
        else:
            high = middle - 1
    return best


def _solve(task: Task, limits: Limits) -> Plan | None:
    best: Plan | None = None
    for types in task.cache_types:
        work = replace(task.work, cache_type_k=types[0], cache_type_v=types[1])
        plan = _best_micro_batch(task, work, limits)
        if plan and (best is None or _is_worth_less_precision(plan, best)):
            best = plan
    return best


def _is_worth_less_precision(plan: Plan, best: Plan) -> bool:
    """Say whether a less wanted type brings the model off the CPU or onto fewer cards, and so saves time.

    That fewer bytes are read is no reason: they have to be converted, which the speed model does not know.
    """
    moves = best.assignment.uses_cpu or len(plan.assignment.cards) < len(best.assignment.cards)
    return moves and plan.seconds < best.seconds * (1 - _CACHE_TYPE_SAVES)


def _best_micro_batch(task: Task, work: Workload, limits: Limits) -> Plan | None:
    variants: list[_Variant] = []
    for size in _sizes(task, work):
        variant = _Variant(task, replace(work, micro_batch=size), limits)
        # A larger one is taken only where it saves something.
        variant.try_runs(_least(variants) / (1 + _MICRO_BATCH_SAVES))
        variants.append(variant)
    if task.header.expert_count and task.cards:
        _try_experts(variants)
    enough_s = _least(variants) * (1 + _MICRO_BATCH_SAVES)
    plan = next((one.plan for one in variants if one.plan and one.plan.seconds <= enough_s), None)
    return plan and replace(plan, gap=_gap(plan, variants))


def _gap(plan: Plan, variants: Sequence[_Variant]) -> float:
    """Say what a plan that was not looked at could save; sums of the same seconds in another order are no gap."""
    could_be_s = min(variant.could_be_s for variant in variants)
    return round(1 - could_be_s / plan.seconds, 9) if could_be_s < _least(variants) else 0.0


def _least(variants: Sequence[_Variant]) -> float:
    return min((one.plan.seconds for one in variants if one.plan), default=inf)


def _sizes(task: Task, work: Workload) -> Iterator[int]:
    """List the micro-batches that differ: beyond the context none does."""
    for size in task.micro_batches:
        yield size
        if size * 2 > work.context_tokens:
            return


@dataclass
class _Variant:
    """The search with one micro-batch; `plan` is the best so far.

    What was not looked at costs `could_be_s` at least.
    """

    task: Task
    work: Workload
    limits: Limits
    plan: Plan | None = None
    could_be_s: float = inf

    @cached_property
    def space(self) -> Space:
        return self.space_of(self.task.devices)

    def space_of(self, devices: tuple[Device, ...]) -> Space:
        first = devices[0].name
        beside = beside_bytes(self.task, self.work, first).get(first, 0)
        costs = costs_between(self.task.header, self.work, self.task.devices)
        return Space(costs, devices, self.task.preference, beside, self.limits)

    def try_runs(self, cutoff_s: float) -> None:
        """Look for a plan of runs that costs less."""

        def solved(space: Space) -> Found | None:
            found = solve_runs(space, cutoff_s)
            if found is not None and found.gap:
                self.could_be_s = min(self.could_be_s, found.seconds * (1 - found.gap))
            return found

        self._fitting(self.space, solved)

    def try_candidate(self, candidate: Candidate, best_s: float) -> float:
        """Look for a plan of a candidate that is better than what is known, and say what all of them cost at least."""
        order = tuple(device.name for device in candidate.order)
        least_s: list[float] = []

        def solved(space: Space) -> Found | None:
            devices = tuple(space.by_name[name] for name in order)
            answer = solve_candidate(replace(candidate, space=space, order=devices), cutoff_of(best_s))
            least_s.append(answer.least_s)
            return answer.found

        self._fitting(candidate.space, solved)
        return least_s[0]

    def _fitting(self, space: Space, search: Search) -> None:
        """Repeat a search until what it finds fits; what is too full is taken for smaller, each time by more."""
        factor = 1
        while (found := search(space)) is not None:
            plan = self._plan(found)
            if plan.fits:
                if self.plan is None or plan.seconds < self.plan.seconds:
                    self.plan = plan
                return
            devices = _smaller(space.devices, plan.loads, factor)
            if devices == space.devices:
                return
            space, factor = self.space_of(devices), 2 * factor

    def _plan(self, found: Found) -> Plan:
        devices = {device.name: device for device in self.task.devices}
        speed = speed_of(self.space.costs, found.assignment, devices, self.task.preference)
        return Plan(
            work=self.work,
            assignment=found.assignment,
            loads=loads_of(self.task, self.work, found.assignment),
            speed=speed,
            seconds=self.task.preference.seconds(speed.prefill_s, speed.decode_s),
            gap=found.gap,
        )


def _smaller(devices: tuple[Device, ...], loads: tuple[DeviceLoad, ...], factor: int) -> tuple[Device, ...]:
    over = {load.device: factor * (load.total_bytes - (load.capacity_bytes or 0)) for load in loads if not load.fits}
    return tuple(device.without(over.get(device.name, 0)) for device in devices)


_Bounded = tuple[float, int, Candidate]
"""What a candidate's plans cost at least, and the number of its variant."""


def _try_experts(variants: Sequence[_Variant]) -> None:
    """Solve the programs of all variants as long as one may beat all that was found.

    Where that leaves much open for all orders that begin with a card, they are divided once more.
    """
    left = _tried(
        variants,
        [(one.bound_s, number, one) for number, variant in enumerate(variants) for one in candidates(variant.space)],
    )
    enough_s = cutoff_of(_least(variants))
    is_open = [candidate.is_divisible and bound_s < enough_s for bound_s, _, candidate in left]
    closed = [one for one, may_win in zip(left, is_open, strict=True) if not may_win]
    divided = [
        (bound_s, number, part)
        for bound_s, number, candidate in compress(left, is_open)
        for part in by_last(candidate, bound_s)
    ]
    for bound_s, number, _ in (*closed, *_tried(variants, divided)):
        variants[number].could_be_s = min(variants[number].could_be_s, bound_s)


def _tried(variants: Sequence[_Variant], bounded: Sequence[_Bounded]) -> list[_Bounded]:
    """Try candidates, most promising first, and say what is known of each then."""
    left = []
    for bound_s, number, candidate in sorted(bounded, key=lambda each: each[:2]):
        best_s = _least(variants)
        least_s = bound_s
        if is_worth_it(candidate, best_s):
            least_s = max(bound_s, variants[number].try_candidate(candidate, best_s))
        left.append((least_s, number, candidate))
    return left
