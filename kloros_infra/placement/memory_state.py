"""Say what each layer remembers of the context: keys and values, or a state of fixed size.

llama.cpp, src/llama-kv-cache.cpp (all that is said of cells and rows), src/llama-kv-cache-iswa.cpp (windows),
src/llama-memory-recurrent.cpp with src/llama-hparams.cpp (n_embd_r, n_embd_s), src/llama-model.cpp (create_memory).
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.gguf import GgufHeader, Recurrence
from kloros_infra.placement.architectures import PROPOSES_WITHOUT_KEYS, RECURRENT, WITHOUT_MEMORY
from kloros_infra.placement.block_sizes import tensor_bytes
from kloros_infra.placement.workload import Workload, in_whole_blocks

_STATE_VALUE_BYTES = 4
# What tells a layer that remembers, whatever else it has; attention goes by these names everywhere.
_REMEMBERING = (".ssm_", ".shortconv.", ".time_mix_")
_CONVOLUTIONS_OF_A_KDA_LAYER = 3


def kv_by_layer(header: GgufHeader, work: Workload) -> tuple[int, ...]:
    """Say what each layer keeps over all slots: keys and values, or its state, or both."""
    if header.architecture in WITHOUT_MEMORY:
        return (0,) * header.layer_count
    remembering = remembering_layers(header)
    state = state_bytes(header) * max(1, work.parallel) if remembering else 0
    sliding = sliding_layers(header)
    sizes: dict[tuple[int, bool], int] = {}
    found = []
    for layer, heads in enumerate(_heads_by_layer(header, remembering)):
        kind = (heads, layer in sliding)
        if kind not in sizes:
            sizes[kind] = work.streams * cells(header, work, is_sliding=kind[1]) * _cell_bytes(header, work, *kind)
        found.append(sizes[kind] + (state if layer in remembering else 0))
    return tuple(found)


def cells(header: GgufHeader, work: Workload, *, is_sliding: bool) -> int:
    """Count the cells of one cache: a token each; those of windows end with the window and one micro-batch."""
    tokens = work.context_tokens
    if is_sliding:
        windows = header.sliding_window * (work.parallel if work.is_unified else 1)
        tokens = min(tokens, windows + work.micro_batch)
    return in_whole_blocks(tokens)


def sliding_layers(header: GgufHeader) -> frozenset[int]:
    """Say which layers look at a sliding window only: those named, or all but the last of each period."""
    if not header.sliding_window:
        return frozenset()
    if header.sliding_layers:
        return frozenset(header.sliding_layers)
    period = header.sliding_window_pattern
    # src/llama-hparams.cpp, set_swa_pattern: blocks that propose tokens have none.
    trunk = range(header.layer_count - header.proposing_layers)
    return frozenset(layer for layer in trunk if period > 0 and layer % period < period - 1)


def looking_layers(header: GgufHeader) -> frozenset[int]:
    """Say which layers look back, whosever keys they look at."""
    remembering, looking_back = remembering_layers(header), _layers_with(header, "blk.*.attn_k.weight")
    return frozenset(
        layer
        for layer, heads in enumerate(header.head_count_kv)
        if heads and (layer not in remembering or layer in looking_back)
    )


def slides(header: GgufHeader, layer: int) -> bool:
    """Say whether one layer looks at a sliding window only."""
    return layer in sliding_layers(header)


def remembering_layers(header: GgufHeader) -> frozenset[int]:
    """Say which layers keep a state of fixed size; the tensor table tells (load_arch_hparams, is_recr_impl)."""
    if header.recurrence is None:
        return frozenset()
    trunk = header.layer_count - header.proposing_layers
    if header.architecture in RECURRENT:
        return frozenset(range(trunk))
    return frozenset(
        layer
        for group in header.tensors
        if group.layers is not None and any(mark in group.name for mark in _REMEMBERING)
        for layer in group.layers
    )


def state_bytes(header: GgufHeader) -> int:
    """Say what one layer remembers for one slot; states are always f32 (create_memory)."""
    if header.recurrence is None:
        return 0
    return convolution_bytes(header) + _STATE_VALUE_BYTES * _state(header, header.recurrence)


def convolution_bytes(header: GgufHeader) -> int:
    """Say what of that is the last tokens, which a convolution still needs."""
    return _STATE_VALUE_BYTES * _convolution(header, header.recurrence) if header.recurrence else 0


def _convolution(header: GgufHeader, one: Recurrence) -> int:
    """llama_hparams::n_embd_r."""
    if one.wkv_head_size:
        return one.token_shift_count * header.embedding_length
    if one.short_conv_cache:
        return header.embedding_length * (one.short_conv_cache - 1)
    if one.kda_head_length:
        kept = one.conv_kernel - 1 if one.conv_kernel else 3
        return _CONVOLUTIONS_OF_A_KDA_LAYER * kept * header.head_count * one.kda_head_length
    return max(0, one.conv_kernel - 1) * (one.inner_size + 2 * one.group_count * one.state_size)


def _state(header: GgufHeader, one: Recurrence) -> int:
    """llama_hparams::n_embd_s."""
    if one.wkv_head_size:
        return header.embedding_length * one.wkv_head_size
    if one.kda_head_length:
        return one.kda_head_length**2 * header.head_count
    return one.state_size * one.inner_size


def _heads_by_layer(header: GgufHeader, remembering: frozenset[int]) -> Iterator[int]:
    """Count the heads whose keys and values each layer keeps; none where it borrows, remembers or only foretells."""
    end = header.layer_count - header.borrowing_layers
    if header.architecture in PROPOSES_WITHOUT_KEYS:
        end = min(end, header.layer_count - header.proposing_layers)
    # Layers that remember and look back as well have keys of their own (Falcon-H1).
    looking_back = _layers_with(header, "blk.*.attn_k.weight")
    for layer, heads in enumerate(header.head_count_kv):
        keeps = layer < end and (layer not in remembering or layer in looking_back)
        yield heads if keeps else 0


def _layers_with(header: GgufHeader, name: str) -> frozenset[int]:
    return frozenset(layer for group in header.tensors if group.name == name for layer in group.layers or ())


def _cell_bytes(header: GgufHeader, work: Workload, heads: int, is_sliding: bool) -> int:
    if heads == 0:
        return 0
    if header.latent is not None:
        # Keys hold all; values are read from them (llama-kv-cache.cpp, has_v = !is_mla).
        return _row_bytes(work.cache_type_k, header.key_length * heads)
    keys, values = header.key_length, header.value_length
    if is_sliding:
        keys, values = header.sliding_key_length or keys, header.sliding_value_length or values
    return _row_bytes(work.cache_type_k, keys * heads) + _row_bytes(work.cache_type_v, values * heads)


def _row_bytes(type_: KvType, values: int) -> int:
    return tensor_bytes(type_.name, (values,))
