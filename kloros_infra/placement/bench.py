"""Measurements of a running instance → how its devices differ from what is foreseen of their kind.

One server says how fast all of its devices are together, so each of them gets the same factors: those of an instance
on one card are that card's own. What is measured is time; what is corrected is how fast weights are read and
multiplied. The rest of a token's time (launches, work that is passed on) is taken as it is foreseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from kloros_infra.ir.bench import NEW_TOKENS, Measurement
from kloros_infra.ir.catalog import Instance, MeasuredSpeed
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.account import EXPERTS, departures
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import Device
from kloros_infra.placement.engines.interface import FIT
from kloros_infra.placement.place import Machine
from kloros_infra.placement.speed import Assignment, Speed, speed_of
from kloros_infra.placement.task import preference_of, task_of

LEAST, MOST = 0.01, 100.0
"""What models.yaml takes for a factor."""
_DEEPEST_TOKENS = 4096
_SHORTEST_TOKENS = 512


def bench_depths(instance: Instance) -> tuple[int, ...]:
    """Choose how long the prompts are: a short one, and one of up to half the context."""
    deep = min(_DEEPEST_TOKENS, instance.serving.context_tokens // 2)
    return tuple(sorted({min(_SHORTEST_TOKENS, deep), deep}))


def is_too_deep(instance: Instance, depth_tokens: int) -> bool:
    """Say whether a prompt and what is generated behind it are more than a request can have."""
    return depth_tokens + NEW_TOKENS > instance.serving.context_tokens


def why_unmeasurable(instance: Instance, placement: Placement) -> str | None:
    """Say why measurements of an instance would tell nothing of its devices; None where they do."""
    if not instance.model.kind.can_chat:
        return "it generates no tokens"
    if placement.engine == FIT:
        return "llama-server itself has placed it, and does not say how"
    if placement.remotes:
        return "it uses cards of another host, whose network is measured with them"
    header = instance.model.weights.header
    if any(one.what != EXPERTS for one in departures(header, placement)):
        return "single tensors of it are away from their layer"
    return None


def prior_devices(instance: Instance, machine: Machine) -> tuple[Device, ...]:
    """Describe devices as they are foreseen, whatever was measured before."""
    cards = tuple(replace(card, measured=MeasuredSpeed()) for card in instance.profile.cards)
    plain = replace(instance, profile=replace(instance.profile, cards=cards))
    return Machine(replace(machine.memory, measured=MeasuredSpeed())).devices(plain)


def foreseen(instance: Instance, placement: Placement, devices: Sequence[Device], depth_tokens: int) -> Speed:
    """Say how fast an instance should be with so many tokens in its context."""
    work = replace(
        task_of(instance, tuple(devices)).work,
        context_tokens=placement.context_tokens,
        micro_batch=placement.micro_batch,
        cache_type_k=placement.cache_type_k,
        cache_type_v=placement.cache_type_v,
    )
    costs = model_costs(instance.model.weights.header, work, depth_tokens=depth_tokens)
    by_name = {device.name: device for device in devices}
    return speed_of(costs, _assignment(instance, placement), by_name, preference_of(instance))


def _assignment(instance: Instance, placement: Placement) -> Assignment:
    away = {layer: one.device for one in departures(instance.model.weights.header, placement) for layer in one.layers}
    layers = placement.layer_devices
    cards = tuple(load.device for load in placement.loads if load.device != CPU)
    experts = tuple(away.get(layer, device) for layer, device in enumerate(layers[:-1]))
    return Assignment(cards, layers, experts)


def measured_speed(
    instance: Instance, placement: Placement, devices: Sequence[Device], measurements: Iterable[Measurement]
) -> MeasuredSpeed:
    """Find the factors with which what is foreseen of `devices` becomes what was measured, in the middle.

    One that models.yaml would not take is held at its bounds; `is_credible` tells.
    """
    faster = [
        replace(device, read_bytes_per_s=2 * device.read_bytes_per_s, flops_per_s=2 * device.flops_per_s)
        for device in devices
    ]
    decode, prefill = [], []
    for one in measurements:
        plain = foreseen(instance, placement, devices, one.depth_tokens)
        twice = foreseen(instance, placement, faster, one.depth_tokens)
        decode.append(_factor(plain.decode_s, twice.decode_s, 1 / one.decode_tokens_per_s))
        prefill.append(_factor(plain.prefill_s, twice.prefill_s, 1 / one.prefill_tokens_per_s))
    return MeasuredSpeed(median(decode), median(prefill))


def is_credible(speed: MeasuredSpeed) -> bool:
    """Say whether factors are within bounds: devices that are off by more were not what was measured."""
    return all(LEAST < factor < MOST for factor in (speed.decode, speed.prefill))


def _factor(plain_s: float, twice_s: float, measured_s: float) -> float:
    """Solve `work / factor + rest = measured`, where the work alone takes half the time at twice the speed."""
    work_s = 2 * (plain_s - twice_s)
    left_s = measured_s - (plain_s - work_s)
    factor = work_s / left_s if left_s > 0 else MOST
    return round(min(MOST, max(LEAST, factor)), 3)


def measured_devices(placement: Placement) -> tuple[str | None, ...]:
    """Name the cards that an instance works on, None for the processor: those that its factors are of."""
    works = {*placement.layer_devices, *(one.device for one in placement.exceptions)}
    return tuple(load.card for load in placement.loads if load.device in works)
