"""Predict how fast a plan reads prompts and generates tokens.

A token generated costs the time to read all weights it needs, keys and values, a fixed amount in each layer, and a hop
wherever the next step is on another device. A prompt costs its arithmetic. Both are sums over the devices, as only one
works at a time, except for a prompt in a pipeline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from kloros_infra.ir.catalog import Preference
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import ModelCosts
from kloros_infra.placement.devices import Device
from kloros_infra.placement.stage_times import StageTimes, can_pipeline
from kloros_infra.placement.taken_over import early_turns

LINKS = "links"
"""What limits a plan that spends most of its time between devices."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where everything of a model is.

    `layer_devices` has one entry per layer and a last one for the head, `expert_devices` one per layer. `cards` are
    the cards that llama-server is given, in this order.
    """

    cards: tuple[str, ...]
    layer_devices: tuple[str, ...]
    expert_devices: tuple[str, ...]

    @property
    def has_exceptions(self) -> bool:
        return any(expert != layer for expert, layer in zip(self.expert_devices, self.layer_devices, strict=False))

    @property
    def uses_cpu(self) -> bool:
        return CPU in self.layer_devices or CPU in self.expert_devices


def in_runs(cards: tuple[str, ...], layer_devices: tuple[str, ...]) -> Assignment:
    """Make an assignment in which all experts are with their layers."""
    return Assignment(cards, layer_devices, layer_devices[:-1])


@dataclass(frozen=True, slots=True)
class Speed:
    """What a plan is predicted to do; `splits` counts the parts of the graph of one token, as llama.cpp does."""

    prefill_s: float
    decode_s: float
    splits: int
    bottleneck: str
    is_pipelined: bool

    @property
    def prefill_tokens_per_s(self) -> float:
        return 1 / self.prefill_s

    @property
    def decode_tokens_per_s(self) -> float:
        return 1 / self.decode_s


def speed_of(
    costs: ModelCosts, assignment: Assignment, devices: Mapping[str, Device], preference: Preference | None = None
) -> Speed:
    """Add up what each device does for one token, and what passing it on costs."""
    first = devices[assignment.cards[0]] if assignment.cards else devices[CPU]
    times = StageTimes(costs, first)
    decode, prefill = _by_device(times, assignment, devices)
    path, turns = tuple(_path(costs, assignment)), _turns(times, assignment, devices)
    spent = Spent(path, decode, prefill, assignment.has_exceptions, turns)
    return added_up(times, spent, devices, preference or Preference())


@dataclass(frozen=True, slots=True)
class Spent:
    """The devices that a token goes through, step by step, and the seconds that each works for it.

    With `has_exceptions` some tensors are not with their layer, and cards do not work as a pipeline. Work
    changes hands `turns` times more than the path tells (`placement.taken_over`).
    """

    path: tuple[str, ...]
    decode: Mapping[str, float]
    prefill: Mapping[str, float]
    has_exceptions: bool
    turns: int


def added_up(times: StageTimes, spent: Spent, devices: Mapping[str, Device], preference: Preference) -> Speed:
    """Add what passing a token on costs."""
    path = spent.path
    hops = [(devices[one], devices[other]) for one, other in pairwise(path) if one != other]
    decode = {**spent.decode, LINKS: sum(times.decode_hop_s(*hop) for hop in hops)}
    prefill = {**spent.prefill, LINKS: sum(times.prefill_hop_s(*hop) for hop in hops)}
    is_pipelined = not spent.has_exceptions and can_pipeline(tuple(dict.fromkeys(path)), devices)
    total_s = sum(prefill.values())
    weighed = {name: preference.seconds(prefill[name], decode[name]) for name in decode}
    return Speed(
        prefill_s=times.pipelined_s(total_s, max(spent.prefill.values())) if is_pipelined else total_s,
        decode_s=sum(decode.values()),
        splits=sum(1 for _ in groupby((CPU, *path))) + spent.turns,
        bottleneck=max(sorted(weighed), key=weighed.__getitem__),
        is_pipelined=is_pipelined,
    )


def _path(costs: ModelCosts, assignment: Assignment) -> Iterator[str]:
    """Follow a token through the model: each layer's core, its experts, what is left of the core; at last the head."""
    for layer, name in enumerate(assignment.layer_devices):
        yield name
        if costs.layers[layer].has_experts:
            yield assignment.expert_devices[layer]
            if costs.layers[layer].ends_with_core:
                yield name


def _turns(times: StageTimes, assignment: Assignment, devices: Mapping[str, Device]) -> int:
    places = zip(times.costs.layers, assignment.layer_devices, assignment.expert_devices, strict=False)
    taken_over = sum(
        times.core_turns(layer, devices[core]) + times.expert_turns(layer, devices[experts])
        for layer, core, experts in places
    )
    return taken_over + early_turns(times.costs.header, times.costs.work, assignment.layer_devices, times.taker)


def _by_device(
    times: StageTimes, assignment: Assignment, devices: Mapping[str, Device]
) -> tuple[dict[str, float], dict[str, float]]:
    decode: defaultdict[str, float] = defaultdict(float)
    prefill: defaultdict[str, float] = defaultdict(float)
    for number, (layer, name) in enumerate(zip(times.costs.layers, assignment.layer_devices, strict=True)):
        decode[name] += times.decode_core_s(layer, devices[name])
        prefill[name] += times.prefill_core_s(layer, devices[name])
        if layer.has_experts:
            expert = assignment.expert_devices[number]
            decode[expert] += times.decode_experts_s(layer, devices[expert])
            prefill[expert] += times.prefill_experts_s(layer, devices[expert])
    return decode, prefill
