"""Find the fastest plan that fits: all micro-batches and cache types, with runs of layers and with experts elsewhere.

The answer is held against the memory model as a whole; where that says that a device is too full, the device is taken
for smaller by as much, and the search is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from kloros_infra.ir.placement import DeviceLoad
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import Device
from kloros_infra.placement.memory import Workload
from kloros_infra.placement.plan_loads import beside_bytes, loads_of
from kloros_infra.placement.solve_dense import Found, Space, solve_runs
from kloros_infra.placement.solve_experts import Candidate, candidates, is_worth_it, solve_candidate
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


def solve(task: Task) -> Plan | None:
    """Find the best plan; None where not even the CPU's memory is enough."""
    plan = _solve(task)
    least = task.min_context_tokens
    if least is None or least >= task.work.context_tokens or (plan and not plan.assignment.uses_cpu):
        return plan
    return _with_less_context(task, least) or plan


def _with_less_context(task: Task, least: int) -> Plan | None:
    """Find the longest context with which the whole model is on the cards; None where there is none."""
    best: Plan | None = None
    low, high = ceil(least / _CONTEXT_STEP), (task.work.context_tokens - 1) // _CONTEXT_STEP
    while low <= high:
        middle = (low + high + 1) // 2 if best else low
        plan = _solve(task.with_context(max(least, middle * _CONTEXT_STEP)))
        if plan is not None and not plan.assignment.uses_cpu:
            best, low = plan, middle + 1
        elif best is None:
            return None
        else:
            high = middle - 1
    return best


def _solve(task: Task) -> Plan | None:
    best: Plan | None = None
    for types in task.cache_types:
        work = replace(task.work, cache_type_k=types[0], cache_type_v=types[1])
        plan = _best_micro_batch(task, work)
        if plan and (best is None or plan.seconds < best.seconds * (1 - _CACHE_TYPE_SAVES)):
            best = plan
    return best


def _best_micro_batch(task: Task, work: Workload) -> Plan | None:
    variants = tuple(_Variant(task, replace(work, micro_batch=size)) for size in _sizes(task, work))
    for variant in variants:
        variant.try_runs()
    if task.header.expert_count and task.cards:
        _try_experts(variants)
    plans = [variant.plan for variant in variants if variant.plan]
    if not plans:
        return None
    enough = min(plan.seconds for plan in plans) * (1 + _MICRO_BATCH_SAVES)
    return next(plan for plan in plans if plan.seconds <= enough)


def _sizes(task: Task, work: Workload) -> Iterator[int]:
    """List the micro-batches that differ: beyond the context none does."""
    for size in task.micro_batches:
        yield size
        if size * 2 > work.context_tokens:
            return


@dataclass
class _Variant:
    """The search with one micro-batch; `plan` is the best so far."""

    task: Task
    work: Workload
    plan: Plan | None = None

    @cached_property
    def space(self) -> Space:
        return self.space_of(self.task.devices)

    def space_of(self, devices: tuple[Device, ...]) -> Space:
        beside = beside_bytes(self.task, self.work, devices[0].name)
        return Space(
            model_costs(self.task.header, self.work), devices, self.task.preference, beside.get(devices[0].name, 0)
        )

    def try_runs(self) -> None:
        self._fitting(self.space, solve_runs)

    def try_candidate(self, candidate: Candidate) -> None:
        order = tuple(device.name for device in candidate.order)

        def solved(space: Space) -> Found | None:
            return solve_candidate(replace(candidate, space=space, order=tuple(space.by_name[name] for name in order)))

        self._fitting(candidate.space, solved)

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


def _try_experts(variants: tuple[_Variant, ...]) -> None:
    """Solve the programs of all variants, most promising first, as long as one may beat all that was found."""
    found = [(one.bound_s, number, one) for number, variant in enumerate(variants) for one in candidates(variant.space)]
    for bounded in sorted(found, key=lambda each: each[:2]):
        best_s = min((one.plan.seconds for one in variants if one.plan), default=float("inf"))
        if is_worth_it(bounded[2], best_s):
            variants[bounded[1]].try_candidate(bounded[2])
