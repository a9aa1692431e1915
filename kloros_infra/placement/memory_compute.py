"""Predict each device's compute buffer, with flash attention on.

llama.cpp, src/llama-context.cpp (sched_reserve: the widest graph is planned once), ggml/src/ggml-backend.cpp (splits,
copies of inputs, weights that are lent to a card), ggml/src/ggml-cuda/fattn.cu (copies of quantized keys and values).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.placement.architectures import KEEPS_ALL_TOKENS, RECURRENT, WITHOUT_MEMORY
from kloros_infra.placement.memory_activations import LayerSteps, steps_by_layer
from kloros_infra.placement.memory_roles import Role
from kloros_infra.placement.memory_state import (
    cells,
    convolution_bytes,
    kv_by_layer,
    looking_layers,
    remembering_layers,
    sliding_layers,
    state_bytes,
)
from kloros_infra.placement.workload import Workload

# Copies of the inputs that a pipeline keeps, so that one card can begin while another still works
# (ggml-backend.cpp, GGML_SCHED_MAX_COPIES).
_PIPELINE_COPIES = 4
# What goes from card to card: a token's vector, and what its layer began with.
_HANDED_ON = 2
_TAKING_TURNS = 2
# What steps of models with windows leave free, in one piece.
_GAPS_BYTES = 64 * 2**20
_VALUE_BYTES = 4
_MASK_BYTES = 2


def compute_bytes(header: GgufHeader, work: Workload, role: Role) -> int:
    """Estimate a device's compute buffer."""
    steps = _few_at_last(header, work, steps_by_layer(header))
    masks = _masks(header, work, role) * (_PIPELINE_COPIES if role.is_pipelined else 1)
    if role.is_idle_cpu:
        kept = _widest(one.on_cpu for one in _of(steps, role.core_layers))
        return masks + _bytes_of(work, 2 * header.embedding_length + kept)
    handed_on = _handed_on(header, role)
    widest = (
        *(masks + _bytes_of(work, one + handed_on) for one in _own_steps(header, steps, role)),
        *_lent(header, work, role, steps, masks=masks),
        masks + _attention_with_copies(header, work, role, steps) if role.holds_layers else 0,
        _head_bytes(header, work) if role.holds_head else 0,
    )
    return max(widest) + _states(header, work, role)


def _few_at_last(header: GgufHeader, work: Workload, steps: tuple[LayerSteps, ...]) -> tuple[LayerSteps, ...]:
    """Leave out what the last layer does with a few tokens only: those that are asked for are picked in its middle."""
    last = header.layer_count - header.proposing_layers - 1
    keeps_all = work.gives_embeddings or header.architecture in WITHOUT_MEMORY | KEEPS_ALL_TOKENS
    if keeps_all or last < 0 or not steps[last].mixing:
        return steps
    few = replace(steps[last], core=steps[last].mixing, experts=0, lent_experts=0)
    return (*steps[:last], few, *steps[last + 1 :])


def _of(steps: Sequence[LayerSteps], layers: tuple[int, ...] | None) -> Sequence[LayerSteps]:
    return steps if layers is None else [steps[layer] for layer in layers]


def _bytes_of(work: Workload, values: int) -> int:
    return _VALUE_BYTES * work.step_tokens * values


def _widest(values: Iterable[int]) -> int:
    return max(values, default=0)


def _own_steps(header: GgufHeader, steps: Sequence[LayerSteps], role: Role) -> tuple[int, ...]:
    if not role.holds_layers:
        return ()
    core, experts = _of(steps, role.core_layers), _of(steps, role.expert_layers)
    widest = _widest(one.core for one in core)
    if role.core_layers and role.is_pipelined and not role.is_first:
        # What its layer began with is handed on for a card's first layer alone.
        later = _widest(one.core for one in core[1:]) - _PIPELINE_COPIES * header.embedding_length
        widest = max(core[0].core, later)
    return widest, _widest(one.experts for one in experts)


def _lent(header: GgufHeader, work: Workload, role: Role, steps: Sequence[LayerSteps], *, masks: int) -> Iterable[int]:
    """Say what steps take beside weights, keys and values that were copied to this card for them.

    How much of a layer's keys and values finds room that steps leave depends on how that is cut up: `_kept_of`.
    """
    if not role.lent_bytes:
        return
    own = _of(steps, role.core_layers) if role.holds_layers else ()
    kept = _widest(one.kept for one in own)
    experts = _widest(one.lent_experts for one in _of(steps, role.lent_layers))
    values = experts + kept if experts else _widest(one.core for one in own)
    guests = set(role.guest_layers) - remembering_layers(header)
    looked_at = kv_by_layer(header, work) if guests else ()
    copied = _widest(looked_at[layer] for layer in guests)
    yield (masks if own else 0) + role.lent_bytes + _bytes_of(work, values) + _kept_of(header, work, copied)
    if copied:
        attention = _widest(steps[layer].attention for layer in guests)
        # Where windows and whole contexts take turns, the next layer's keys come before these are gone.
        again = copied // 2 if header.sliding_window_pattern == _TAKING_TURNS else 0
        yield masks + copied + again + _bytes_of(work, attention)
    if role.has_lent_for_others:
        yield 2 * role.lent_bytes + _bytes_of(work, header.embedding_length + kept)


def _kept_of(header: GgufHeader, work: Workload, copied_bytes: int) -> int:
    """Say what keys and values that were copied take beside the steps of their layer: fitted, rather too much."""
    if not copied_bytes:
        return 0
    if remembering_layers(header):
        return copied_bytes // (4 if _has_mamba(header) else 2)
    if header.expert_count:
        return copied_bytes + _bytes_of(work, 2 * header.embedding_length)
    if sliding_layers(header):
        return max(copied_bytes // 2, copied_bytes - _GAPS_BYTES)
    # Layers of several widths leave gaps of several sizes.
    widths = {one.core for one in steps_by_layer(header)}
    if len(widths) > 1:
        return copied_bytes
    return max(copied_bytes // 3, copied_bytes - 2 * _bytes_of(work, *widths) // 3)


def _handed_on(header: GgufHeader, role: Role) -> int:
    """Count the values of a token that come from another device of a pipeline, in all copies."""
    if not role.is_pipelined:
        return 0
    return (1 if role.is_first else _HANDED_ON) * _PIPELINE_COPIES * header.embedding_length + _memory_handed_on(
        header, role
    )


def _memory_handed_on(header: GgufHeader, role: Role) -> int:
    """Count the same of what Mamba's layers compute: measured, on both sides of each border."""
    if header.recurrence is None or not _has_mamba(header):
        return 0
    borders = (0 if role.is_first else _HANDED_ON) + (0 if role.is_last else 1)
    return borders * _PIPELINE_COPIES * header.recurrence.inner_size


def _has_mamba(header: GgufHeader) -> bool:
    return any(group.name == "blk.*.ssm_in.weight" for group in header.tensors)


def _attention_with_copies(header: GgufHeader, work: Workload, role: Role, steps: Sequence[LayerSteps]) -> int:
    """Say what attention takes where keys and values of one layer are copied to f16 for it."""
    if (work.cache_type_k, work.cache_type_v) == (KvType.F16, KvType.F16):
        return 0
    in_f16 = kv_by_layer(header, replace(work, cache_type_k=KvType.F16, cache_type_v=KvType.F16))
    looking_back = set(range(header.layer_count) if role.core_layers is None else role.core_layers)
    handed_on = _handed_on(header, role)
    return _widest(
        _bytes_of(work, steps[layer].attention + handed_on) + in_f16[layer]
        for layer in looking_back - remembering_layers(header)
    )


def _states(header: GgufHeader, work: Workload, role: Role) -> int:
    """Say what the new states of one layer take before they are kept."""
    remembering = remembering_layers(header)
    own = remembering if role.core_layers is None else remembering.intersection(role.core_layers)
    if not own or not role.holds_layers:
        return 0
    # In hybrids the next layer's is made ready meanwhile (`taken_over.early_turns`).
    least = 1 if len(remembering) == header.layer_count else 2
    return max(least, work.parallel) * state_bytes(header) + work.parallel * convolution_bytes(header)


def _masks(header: GgufHeader, work: Workload, role: Role) -> int:
    """Say what tells which token may look at which (llama-graph.cpp, build_attn_inp_kv): one for each kind of cache.

    The CPU keeps all of them, a card has copies of those that its layers need.
    """
    if header.architecture in RECURRENT:
        return 0
    sliding = sliding_layers(header)
    layers: Iterable[int] = range(header.layer_count)
    if role.core_layers is not None and not role.is_idle_cpu:
        layers = looking_layers(header).intersection(role.core_layers)
    kinds = {layer in sliding for layer in layers}
    if header.architecture in WITHOUT_MEMORY:
        return _MASK_BYTES * work.step_tokens**2 * len(kinds)
    looked_at = sum(cells(header, work, is_sliding=is_sliding) for is_sliding in kinds)
    return _MASK_BYTES * work.step_tokens * looked_at


def _head_bytes(header: GgufHeader, work: Workload) -> int:
    """Say what the logits take: for the last token of each slot, or of all where embeddings are asked for."""
    if header.architecture in WITHOUT_MEMORY:
        return 0
    outputs = work.step_tokens if work.gives_embeddings else min(work.parallel, work.step_tokens)
    return _VALUE_BYTES * outputs * header.vocabulary_size + _bytes_of(work, 2 * header.embedding_length)
