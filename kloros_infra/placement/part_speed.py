"""Predict the speed of a plan in which any matrix may be away from its layer.

Like `placement.speed`, where experts are all that leaves a layer: here a layer is as many parts as its steps change
devices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from kloros_infra.ir.catalog import Preference
from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.placement.costs import LayerCosts, ModelCosts, is_of_experts
from kloros_infra.placement.devices import Device
from kloros_infra.placement.overrider_layers import Arrangement, LayerPlan
from kloros_infra.placement.speed import Speed, Spent, added_up
from kloros_infra.placement.stage_times import StageTimes
from kloros_infra.placement.taken_over import early_turns

# Feed-forward steps in the order of the graph; attention and whatever else a layer has come before them. The gate is
# the first source of its product with up (src/llama-graph.cpp, build_ffn; ggml.c, ggml_build_forward_expand).
_STEPS = ("ffn_gate_inp", "ffn_gate", "ffn_up", "ffn_down")
_SHARED = "_shexp"


@dataclass(frozen=True, slots=True)
class Part:
    """Steps of a layer that follow each other on one device, as shares of its core and of its experts.

    The first part of a layer looks back: keys and values are read there.
    """

    device: str
    core: float
    experts: float
    looks_back: bool


def speed_of_arrangement(
    costs: ModelCosts, arrangement: Arrangement, devices: Mapping[str, Device], preference: Preference
) -> Speed:
    """Add up what each device does for one token, and what passing it on costs."""
    parts = [tuple(_parts(costs.header, layer, plan)) for layer, plan in enumerate(arrangement.plans)]
    head = devices[arrangement.head]
    times = StageTimes(costs, devices[(*arrangement.cards, arrangement.head)[0]])
    decode: defaultdict[str, float] = defaultdict(float)
    prefill: defaultdict[str, float] = defaultdict(float)
    turns = early_turns(costs.header, costs.work, [plan.device for plan in arrangement.plans], times.taker)
    for layer, of_layer in zip(costs.layers, parts, strict=False):
        for part in of_layer:
            piece, device = _piece(layer, part), devices[part.device]
            taken_over = times.core_turns(piece, device) + times.expert_turns(piece, device)
            turns += taken_over
            decode[part.device] += _decode_s(piece, part, device) + times.taken_over_s(taken_over)
            prefill[part.device] += times.prefill_core_s(piece, device) + times.prefill_experts_s(piece, device)
    decode[head.name] += times.decode_core_s(costs.layers[-1], head)
    prefill[head.name] += times.prefill_core_s(costs.layers[-1], head)
    path = (*(part.device for of_layer in parts for part in of_layer), head.name)
    return added_up(times, Spent(path, decode, prefill, bool(arrangement.exceptions), turns), devices, preference)


def _parts(header: GgufHeader, layer: int, plan: LayerPlan) -> Iterator[Part]:
    steps = sorted(_matrices(header, layer), key=lambda named: _step(named[0]))
    core_bytes = sum(group.size_bytes for _, group in steps if not is_of_experts(group))
    expert_bytes = sum(group.size_bytes for _, group in steps if is_of_experts(group))
    by_step = ((plan.away.get(kind, plan.device), group) for kind, group in steps)
    # A layer looks back where it is, whatever of it is elsewhere.
    for number, (device, run) in enumerate(groupby(((plan.device, None), *by_step), key=itemgetter(0))):
        groups = [group for _, group in run if group is not None]
        yield Part(
            device,
            core=_share(sum(group.size_bytes for group in groups if not is_of_experts(group)), core_bytes),
            experts=_share(sum(group.size_bytes for group in groups if is_of_experts(group)), expert_bytes),
            looks_back=number == 0,
        )


def _matrices(header: GgufHeader, layer: int) -> Iterator[tuple[str, TensorGroup]]:
    for group in header.tensors:
        if group.layers is not None and layer in group.layers and len(group.shape) > 1:
            yield group.name.removeprefix("blk.*."), group


def _step(kind: str) -> tuple[bool, int]:
    """Say when a matrix has its turn in its layer; what all tokens share comes after the experts."""
    place = next((place for place, name in enumerate(_STEPS, start=1) if kind.startswith(name)), 0)
    return _SHARED in kind, place


def _share(part_bytes: int, whole_bytes: int) -> float:
    return part_bytes / whole_bytes if whole_bytes else 0.0


def _piece(layer: LayerCosts, part: Part) -> LayerCosts:
    kept_bytes = layer.read_bytes - layer.core_bytes if part.looks_back else 0.0
    return replace(
        layer,
        core_bytes=round(layer.core_bytes * part.core),
        expert_bytes=round(layer.expert_bytes * part.experts),
        read_bytes=layer.core_bytes * part.core + kept_bytes,
        expert_read_bytes=layer.expert_read_bytes * part.experts,
        core_flops=layer.core_flops * part.core,
        expert_flops=layer.expert_flops * part.experts,
        attention_flops=layer.attention_flops if part.looks_back else 0.0,
        core_turns=layer.core_turns if part.looks_back else 0,
        expert_turns=layer.expert_turns if part.experts else 0,
    )


def _decode_s(piece: LayerCosts, part: Part, device: Device) -> float:
    """Add what is read and, by its share, what a layer takes beside reading."""
    read_s = (piece.read_bytes + piece.expert_read_bytes) / device.read_bytes_per_s
    experts_s = device.expert_layer_s - device.dense_layer_s
    return read_s + part.core * device.dense_layer_s + part.experts * experts_s
