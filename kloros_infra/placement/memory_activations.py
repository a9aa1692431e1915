"""Estimate the values that one token's widest step keeps in each layer, from the shapes of the layer's tensors.

llama.cpp plans a graph's memory by reuse (ggml/src/ggml-alloc.c); these sums are what stays alive at the widest step of
each kind of layer, fitted to what llama-server b10068 reports with flash attention on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.ir.gguf import GgufHeader

Shapes = Mapping[str, tuple[int, ...]]

# Where nothing of a layer is known: more than any step that was measured takes beside its widest tensor.
_UNKNOWN_TIMES_EMBEDDING = 12


@dataclass(frozen=True, slots=True)
class LayerSteps:
    """Values of one token in a layer's widest steps, 0 where it has no such step.

    `core` is the widest of all but the experts, `attention` the widest of attention alone, `mixing` that of attention
    or memory, whichever the layer has. `lent_experts` is the widest step of experts whose weights are copied to a card
    for it, `kept` what a memory keeps beside such a copy, and `on_cpu` what stays with the CPU when a card computes its
    layer.
    """

    core: int
    attention: int
    mixing: int
    experts: int
    lent_experts: int
    kept: int
    on_cpu: int


def steps_by_layer(header: GgufHeader) -> tuple[LayerSteps, ...]:
    """Count the values of each layer's widest steps; layers with the same tensors are counted once."""
    found: dict[tuple[tuple[str, tuple[int, ...]], ...], LayerSteps] = {}
    result = []
    for table in _shapes_by_layer(header):
        key = tuple(table.items())
        if key not in found:
            found[key] = _steps(header, table)
        result.append(found[key])
    return tuple(result)


def _shapes_by_layer(header: GgufHeader) -> list[dict[str, tuple[int, ...]]]:
    tables: list[dict[str, tuple[int, ...]]] = [{} for _ in range(header.layer_count)]
    for group in header.tensors:
        name = group.name.removeprefix("blk.*.").removesuffix(".weight")
        for layer in group.layers or ():
            tables[layer][name] = group.shape
    return tables


def _steps(header: GgufHeader, table: Shapes) -> LayerSteps:
    attention = max(_attention(header, table), default=0)
    memory, kept, on_cpu = _memory(header, table)
    experts, lent = _experts(header, table)
    core = max(attention, memory, *_feed_forward(header, table), 0)
    return LayerSteps(
        core=core or (0 if experts else _UNKNOWN_TIMES_EMBEDDING * header.embedding_length),
        attention=attention,
        mixing=max(attention, memory),
        experts=experts,
        lent_experts=lent,
        kept=kept,
        on_cpu=on_cpu,
    )


def _looked_at(table: Shapes) -> int:
    """Give the width of what attention found, which stays until the layer is done; 0 without attention."""
    return table["attn_output"][0] if "attn_output" in table else 0


def _attention(header: GgufHeader, table: Shapes) -> Iterator[int]:
    """src/llama-graph.cpp, build_attn; of MLA also the queries in both forms (src/models/deepseek2.cpp)."""
    wide = header.embedding_length
    if (latent := header.latent) is not None and "attn_k_b" in table:
        queries = latent.key_length + 2 * latent.rank + latent.rope_length
        yield header.head_count * queries + 5 * wide
        return
    asked = table.get("attn_qkv") or table.get("attn_q")
    if asked is not None and "attn_output" in table:
        yield asked[1] + _looked_at(table) + 2 * wide


def _feed_forward(header: GgufHeader, table: Shapes) -> Iterator[int]:
    """src/llama-graph.cpp, build_ffn: both halves and their product, or one and what becomes of it."""
    for suffix in ("", "_shexp"):
        if f"ffn_up{suffix}" in table and f"ffn_down{suffix}" in table:
            inner = table[f"ffn_down{suffix}"][0]
            has_gate = f"ffn_gate{suffix}" in table or table[f"ffn_up{suffix}"][1] == 2 * inner
            yield (3 if has_gate else 2) * inner + _looked_at(table) + 2 * header.embedding_length


def _experts(header: GgufHeader, table: Shapes) -> tuple[int, int]:
    """src/llama-graph.cpp, build_moe_ffn: the steps of all experts that a token uses stand side by side."""
    if "ffn_down_exps" not in table:
        return 0, 0
    inner, out = (header.expert_used_count * extent for extent in table["ffn_down_exps"][:2])
    wide, looked_at = header.embedding_length, _looked_at(table)
    # Steps that are no wider than what attention found take its room, as many as there is for.
    steps = max(0, 3 - looked_at // max(1, inner)) * inner
    # The answers take the room of two steps where they fit.
    is_spilling = out > 2 * inner
    shared = 3 * table["ffn_up_shexp"][1] if "ffn_up_shexp" in table else 0
    lent = 2 * inner + out + wide if is_spilling else 3 * inner
    return steps + (out if is_spilling else 0) + looked_at + 2 * wide, lent + shared


def _memory(header: GgufHeader, table: Shapes) -> tuple[int, int, int]:
    """Count the widest step, what is kept beside lent weights, and what stays with the CPU.

    src/models/mamba-base.cpp, delta-net-base.cpp, lfm2.cpp, rwkv7-base.cpp.
    """
    wide = header.embedding_length
    mixed = table["ssm_conv1d"][1] if "ssm_conv1d" in table else 0
    inner = header.recurrence.inner_size if header.recurrence else 0
    if "ssm_x" in table:
        return 25 * inner // 4, mixed, 3 * inner
    if mixed and "ssm_in" in table:
        projected = table["ssm_in"][1]
        return projected + 2 * mixed + inner + 2 * wide, 2 * mixed, projected + mixed + inner
    if mixed:
        return 3 * wide + 23 * mixed // 8, 2 * mixed, mixed
    if "shortconv.in_proj" in table:
        return 8 * wide, 0, 3 * wide
    if any(name.startswith("time_mix_") for name in table):
        return _UNKNOWN_TIMES_EMBEDDING * wide, 0, _UNKNOWN_TIMES_EMBEDDING * wide
    return 0, 0, 0
