"""Our own placing: the fastest plan that fits, by the speed model."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.placement import Placement
from kloros_infra.placement import solver_problems as problems
from kloros_infra.placement.engines.interface import SOLVER, Engine, Outcome, Request, decided
from kloros_infra.placement.engines.manual import busiest_load, by_capacity, with_counts
from kloros_infra.placement.problems import does_not_fit
from kloros_infra.placement.solver import Plan, solve


def _place(request: Request) -> Outcome:
    odd = tuple(problems.odd_figures(request.instance, device) for device in request.devices if not device.is_sound)
    if odd:
        return None, odd
    plan = solve(request.task)
    if plan is None:
        return None, (_why_not(request),)
    placement = planned(request, plan)
    return placement, tuple(_remarks(request, placement))


def _why_not(request: Request) -> Diagnostic:
    """Name the device that is too full where layers are divided by what the cards hold, or all devices."""
    divided = with_counts(request, by_capacity(request), SOLVER)
    busiest = busiest_load(divided)
    if not busiest.fits and busiest.card is None and all(load.fits for load in divided.loads if load.card):
        return does_not_fit(request.instance, busiest)
    if busiest.fits or request.devices[-1].takes_layers:
        return problems.fits_nowhere(request.instance, request.devices)
    return does_not_fit(request.instance, busiest)


def planned(request: Request, plan: Plan) -> Placement:
    """Write a plan down."""
    return decided(SOLVER, request.task, plan.assignment, work=plan.work, gap=plan.gap)


def _remarks(request: Request, placement: Placement) -> Iterator[Diagnostic]:
    """Say what somebody may not expect: layers on the CPU, a shorter context, other types of keys and values."""
    instance, cpu = request.instance, placement.loads[-1]
    has_head_there = placement.head_device == cpu.device
    if cpu.layers or has_head_there:
        yield problems.layers_stay_with_the_cpu(instance, placement)
    if placement.context_tokens < instance.serving.context_tokens:
        yield problems.context_lowered(instance, placement)
    wanted = (instance.serving.cache_type_k, instance.serving.cache_type_v)
    if wanted != (placement.cache_type_k, placement.cache_type_v):
        yield problems.cache_types_changed(instance, placement)


ENGINE = Engine(SOLVER, version=2, place=_place)
