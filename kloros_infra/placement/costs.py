"""What each layer of a model holds, reads and computes: the facts that both the memory and the speed of a plan add up.

A layer's experts are told from the rest of it, its core: llama.cpp can keep them on another device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import prod

from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.architectures import ENCODERS
from kloros_infra.placement.devices import Device
from kloros_infra.placement.memory_state import kv_by_layer, slides
from kloros_infra.placement.memory_weights import pieces
from kloros_infra.placement.taken_over import expert_turns, turns_by_layer
from kloros_infra.placement.workload import Workload

EXPERTS_MARK = "_exps."
"""Part of the name of each tensor that holds all experts of a layer (llama.cpp, src/llama-arch.cpp)."""

_AFTER_EXPERTS = ("_shexp.", ".post_ffw_norm")

_VALUE_BYTES = 4
# A multiplication and an addition for each weight.
_FLOPS_OF_A_WEIGHT = 2
# For each position that is looked at: a product with its key, and one with its value.
_FLOPS_OF_A_POSITION = 4


@dataclass(frozen=True, slots=True)
class LayerCosts:
    """One layer, or the output head after the last.

    The first three are memory; `read_bytes` (weights of the core, keys and values) and `expert_read_bytes` are read
    for each token generated; the flops are those of one token of a prompt. Where the layer or its experts are the
    CPU's, a token goes from device to device so many turns more (`placement.taken_over`).
    """

    core_bytes: int
    expert_bytes: int
    kv_bytes: int
    read_bytes: float
    expert_read_bytes: float
    core_flops: float
    expert_flops: float
    attention_flops: float
    core_turns: int = 0
    expert_turns: int = 0
    ends_with_core: bool = False
    """Whether weights of the core have their turn after the experts: those that all tokens share, or a norm."""
    is_entry: bool = False
    """Whether what the processor has looked up arrives here; that takes time on a card of another host."""

    @property
    def held_bytes(self) -> int:
        """What goes wherever the layer goes, with its experts."""
        return self.core_bytes + self.expert_bytes + self.kv_bytes

    @property
    def has_experts(self) -> bool:
        return self.expert_bytes > 0


@dataclass(frozen=True)
class ModelCosts:
    """A model under a workload: its layers, the head last; `depth_tokens` is how full the context is.

    `activation_bytes` go from device to device for each token.
    """

    header: GgufHeader
    work: Workload
    depth_tokens: int
    layers: tuple[LayerCosts, ...]
    activation_bytes: int

    @cached_property
    def has_experts(self) -> bool:
        return any(layer.has_experts for layer in self.layers)

    @cached_property
    def held_before(self) -> tuple[int, ...]:
        """Bytes of the layers before each, and of all."""
        return tuple(accumulate((layer.held_bytes for layer in self.layers), initial=0))


def model_costs(header: GgufHeader, work: Workload, *, depth_tokens: int | None = None) -> ModelCosts:
    """Take a header apart; without a depth the context is taken for half full, which it is on average."""
    depth = max(1, work.context_tokens // 2) if depth_tokens is None else depth_tokens
    weights = _weights(header)
    kv = kv_by_layer(header, work)
    kv_read = kv_by_layer(header, replace(work, context_tokens=depth, parallel=1))
    core_turns, of_experts = turns_by_layer(header, work), expert_turns(header, work)
    ends_with_core = _layers_that_end_with_core(header)
    layers = tuple(
        replace(
            _layer(header, weights[layer], kv_bytes=kv[layer], kv_read_bytes=kv_read[layer]),
            attention_flops=_attention_flops(header, layer, depth),
            core_turns=core_turns[layer],
            expert_turns=of_experts,
            ends_with_core=layer in ends_with_core,
        )
        for layer in range(header.layer_count)
    )
    head = weights[-1].core_bytes
    # Only the last token of a prompt goes through the head.
    last = LayerCosts(head, 0, 0, float(head), 0.0, 0.0, 0.0, 0.0)
    return ModelCosts(header, work, depth, (*layers, last), _VALUE_BYTES * header.embedding_length)


def costs_between(header: GgufHeader, work: Workload, devices: Iterable[Device]) -> ModelCosts:
    """Take a header apart; where devices are of other hosts, the first layer is told from the others."""
    costs = model_costs(header, work)
    if not any(device.is_remote for device in devices):
        return costs
    first, *others = costs.layers
    return replace(costs, layers=(replace(first, is_entry=True), *others))


@dataclass(slots=True)
class _Weights:
    """Bytes and numbers of the weights of one layer's core and of its experts."""

    core_bytes: int = 0
    core: int = 0
    expert_bytes: int = 0
    experts: int = 0


def _layers_that_end_with_core(header: GgufHeader) -> frozenset[int]:
    """src/llama-graph.cpp, build_moe_ffn, and what the families add to its result."""
    last = (group for group in header.tensors if any(mark in group.name for mark in _AFTER_EXPERTS))
    return frozenset(layer for group in last for layer in group.layers or ())


def is_of_experts(group: TensorGroup) -> bool:
    """Say whether a tensor holds all experts of a layer."""
    return EXPERTS_MARK in group.name


def _weights(header: GgufHeader) -> tuple[_Weights, ...]:
    """Add up each layer, and the head at last, as if each were on a device of its own."""
    names = tuple(map(str, range(header.layer_count + 1)))
    found = tuple(_Weights() for _ in names)
    for device, group, _ in pieces(header, names):
        if device == CPU:
            continue
        one = found[int(device)]
        count = prod(group.shape) if len(group.shape) > 1 else 0
        if is_of_experts(group):
            one.expert_bytes += group.size_bytes
            one.experts += count
        else:
            one.core_bytes += group.size_bytes
            one.core += count
    return found


def _layer(header: GgufHeader, weights: _Weights, *, kv_bytes: int, kv_read_bytes: int) -> LayerCosts:
    used = header.expert_used_count / header.expert_count if header.expert_count else 1.0
    return LayerCosts(
        core_bytes=weights.core_bytes,
        expert_bytes=weights.expert_bytes,
        kv_bytes=kv_bytes,
        read_bytes=float(weights.core_bytes + kv_read_bytes),
        expert_read_bytes=weights.expert_bytes * used,
        core_flops=float(_FLOPS_OF_A_WEIGHT * weights.core),
        expert_flops=_FLOPS_OF_A_WEIGHT * weights.experts * used,
        attention_flops=0.0,
    )


def _attention_flops(header: GgufHeader, layer: int, depth_tokens: int) -> float:
    """Each token of a prompt looks at half of it on average; in a sliding window, at no more than that."""
    if not header.head_count_kv[layer] and header.architecture not in ENCODERS:
        return 0.0
    positions = depth_tokens / 2
    if slides(header, layer):
        positions = min(positions, float(header.sliding_window))
    return _FLOPS_OF_A_POSITION * positions * header.head_count * header.key_length
