"""Count the steps of the CPU's layers that go to the first card even for a single token.

llama.cpp gives the first card whatever has 32 rows or more and weights in host memory (ggml/src/ggml-backend.cpp,
ggml_backend_sched_backend_id_from_cur). Products have a row for each token, but what works head by head has one for
each head (ggml/src/ggml-cuda/ggml-cuda.cu, get_op_batch_size): norms of queries and keys, attention with sinks, parts
of Mamba. Each such step goes there and comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.architectures import LAYER_BY_LAYER
from kloros_infra.placement.memory_roles import EXPERTS_MARK
from kloros_infra.placement.memory_state import remembering_layers, sliding_layers
from kloros_infra.placement.workload import Workload

ROWS_TAKEN_OVER = 32
"""ggml-cuda.cu, GGML_OP_OFFLOAD_MIN_BATCH."""

_THERE_AND_BACK = 2
# Mamba 2's gate goes along before it, as a part of its own: what begins with a weight from elsewhere does not join
# (src/models/mamba-base.cpp, build_mamba2_layer; ggml_backend_sched_split_graph, need_new_split).
_WITH_ITS_GATE = 3
SKIP = "ssm_d"
"""What Mamba's layers add of their input to what they give."""
_NORMS = frozenset({"attn_q_norm.weight", "attn_k_norm.weight"})


def turns_by_layer(header: GgufHeader, work: Workload) -> tuple[int, ...]:
    """Say how often each layer changes hands for that where it is the CPU's; each slot adds a token."""
    turns = [0] * header.layer_count
    sliding = sliding_layers(header)
    has_factors = any(group.name == "rope_freqs.weight" for group in header.tensors)
    for group in header.tensors:
        kind = group.name.removeprefix("blk.*.")
        for layer in group.layers or ():
            if work.parallel * _rows(header, group, layer) < ROWS_TAKEN_OVER:
                continue
            turns[layer] += _WITH_ITS_GATE if kind == SKIP else _THERE_AND_BACK
            # What turns queries and keys by factors from a file follows their norm, and those are the CPU's as well.
            turns[layer] += has_factors and kind in _NORMS and layer not in sliding
    return tuple(turns)


def early_turns(header: GgufHeader, work: Workload, layer_devices: Sequence[str], taker: str | None) -> int:
    """Say how often work changes hands because a layer that remembers begins before the one ahead of it is done.

    Its state is made ready as soon as the layer ahead has kept what it keeps (src/llama-graph.cpp, build_rs), or as its
    experts have answered (build_moe_ffn). Where that one is the CPU's, and gives its next step to the same card, the
    `taker`, both are one turn.
    """
    giving = _layers_that_give_their_skip(header, work)
    borders = (pair for pair in _early_pairs(header) if layer_devices[pair[0]] != layer_devices[pair[1]])
    return sum(
        _THERE_AND_BACK
        for one, other in borders
        if layer_devices[one] != CPU or one not in giving or layer_devices[other] != taker
    )


def _early_pairs(header: GgufHeader) -> Iterator[tuple[int, int]]:
    """Find the layers that begin early, each with the one that keeps something ahead of it."""
    remembering = remembering_layers(header)
    if not remembering or header.architecture in LAYER_BY_LAYER:
        return
    keeping = [layer for layer, heads in enumerate(header.head_count_kv) if heads or layer in remembering]
    with_experts = {layer for group in header.tensors if EXPERTS_MARK in group.name for layer in group.layers or ()}
    for one, other in pairwise(keeping):
        if other in remembering and with_experts.isdisjoint(range(one, other)):
            yield one, other


def _layers_that_give_their_skip(header: GgufHeader, work: Workload) -> frozenset[int]:
    return frozenset(
        layer
        for group in header.tensors
        if group.name == f"blk.*.{SKIP}"
        for layer in group.layers or ()
        if work.parallel * _rows(header, group, layer) >= ROWS_TAKEN_OVER
    )


def expert_turns(header: GgufHeader, work: Workload) -> int:
    """Say the same of one layer's experts, whose biases have a row for each expert that a token uses."""
    rows = work.parallel * header.expert_used_count
    biases = {group.name for group in header.tensors if group.name.endswith("_exps.bias")}
    # From the last one a token goes on to the layer's device, and not back.
    return _THERE_AND_BACK * len(biases) - 1 if biases and rows >= ROWS_TAKEN_OVER else 0


def takes_over_all(placement: Placement) -> bool:
    """Say whether slots give so many tokens at a time that all products by the CPU's weights go to the first card.

    Each weight then begins a part of the graph, as for a prompt, and parts are not foreseen.
    """
    has_weights = CPU in placement.layer_devices or any(one.device == CPU for one in placement.exceptions)
    return has_weights and placement.parallel >= ROWS_TAKEN_OVER


def _rows(header: GgufHeader, group: TensorGroup, layer: int) -> int:
    """Count the rows that one token has in the step of a tensor; 0 for a product, and for what has one."""
    heads = {"attn_q_norm.weight": header.head_count, "attn_k_norm.weight": header.head_count_kv[layer]}
    match group.name.removeprefix("blk.*."):
        case "attn_q_norm.weight" | "attn_k_norm.weight" as kind:
            is_by_head = group.shape[0] in (header.key_length, header.sliding_key_length)
            return heads[kind] if is_by_head else 0
        case "attn_sinks.weight":
            return header.head_count
        case "ssm_d":
            return group.shape[1] if len(group.shape) > 1 else 0
        case "ssm_norm.weight":
            return header.recurrence.inner_size // group.shape[0] if header.recurrence else 0
        case _:
            return 0
