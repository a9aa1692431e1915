"""The models that placements are compared for: headers made from published shapes, as quantized files have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.ir.gguf import GgufHeader, Tensor, group_tensors
from kloros_infra.placement.block_sizes import tensor_bytes
from kloros_infra.placement.published import derive_header

Rows = Iterator[tuple[str, tuple[int, ...], str]]


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """What a config.json of a model with experts says; `high` is the type of tensors that get more bits."""

    architecture: str
    layers: int
    wide: int
    heads: int
    kv_heads: int
    head: int
    experts: int
    used: int
    expert_wide: int
    vocabulary: int
    context: int
    base: str
    high: str
    experts_type: str


# Qwen/Qwen3-30B-A3B and Qwen/Qwen3-235B-A22B, openai/gpt-oss-120b.
QWEN3_30B = ExpertShape("qwen3moe", 48, 2048, 32, 4, 128, 128, 8, 768, 151936, 40960, "Q4_K", "Q6_K", "Q4_K")
QWEN3_235B = ExpertShape("qwen3moe", 94, 4096, 64, 4, 128, 128, 8, 1536, 151936, 40960, "IQ4_XS", "IQ4_XS", "IQ4_XS")
GPT_OSS_120B = ExpertShape("gpt-oss", 36, 2880, 64, 8, 64, 128, 4, 2880, 201088, 131072, "Q8_0", "Q8_0", "MXFP4")


def with_experts(shape: ExpertShape) -> GgufHeader:
    """Make the header of a model with experts in each layer."""
    is_gpt_oss = shape.architecture == "gpt-oss"
    rows: list[tuple[str, tuple[int, ...], str]]
    rows = [("token_embd.weight", (shape.wide, shape.vocabulary), shape.base)]
    rows += [("output.weight", (shape.wide, shape.vocabulary), "Q8_0" if is_gpt_oss else "Q6_K")]
    rows += [("output_norm.weight", (shape.wide,), "F32")]
    for layer in range(shape.layers):
        rows += [(f"blk.{layer}.{name}", extents, type_) for name, extents, type_ in _layer(shape, layer)]
    return GgufHeader(
        architecture=shape.architecture,
        layer_count=shape.layers,
        embedding_length=shape.wide,
        feed_forward_length=shape.expert_wide,
        head_count=shape.heads,
        head_count_kv=(shape.kv_heads,) * shape.layers,
        key_length=shape.head,
        value_length=shape.head,
        context_length=shape.context,
        vocabulary_size=shape.vocabulary,
        tensors=group_tensors(
            Tensor(name, type_, extents, tensor_bytes(type_, extents)) for name, extents, type_ in rows
        ),
        expert_count=shape.experts,
        expert_used_count=shape.used,
        sliding_window=128 if is_gpt_oss else 0,
        sliding_window_pattern=2 if is_gpt_oss else 0,
    )


def _layer(shape: ExpertShape, layer: int) -> Rows:
    eighth = shape.layers // 8
    gets_more = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
    high = shape.high if gets_more else shape.base
    down = shape.high if gets_more and shape.experts_type == shape.base else shape.experts_type
    wide, ff, count = shape.wide, shape.expert_wide, shape.experts
    yield "attn_norm.weight", (wide,), "F32"
    yield "ffn_norm.weight", (wide,), "F32"
    yield "attn_q.weight", (wide, shape.heads * shape.head), shape.base
    yield "attn_k.weight", (wide, shape.kv_heads * shape.head), shape.base
    yield "attn_v.weight", (wide, shape.kv_heads * shape.head), high
    yield "attn_output.weight", (shape.heads * shape.head, wide), shape.base
    yield "ffn_gate_inp.weight", (wide, count), "F32"
    yield "ffn_gate_exps.weight", (wide, ff, count), shape.experts_type
    yield "ffn_up_exps.weight", (wide, ff, count), shape.experts_type
    yield "ffn_down_exps.weight", (ff, wide, count), down
    if shape.architecture == "gpt-oss":
        for name, out in (("gate", ff), ("up", ff), ("down", wide)):
            yield f"ffn_{name}_exps.bias", (out, count), "F32"


def _published(name: str, quantization: str) -> GgufHeader:
    header = derive_header(name, quantization)
    if header is None:
        raise SystemExit(f"no shape of {name} {quantization}")
    return header


MODELS: Mapping[str, Callable[[], GgufHeader]] = {
    "Qwen2.5-Coder-7B Q4_0": lambda: _published("qwen2.5-7b", "Q4_0"),
    "R1-Distill-14B Q4_K_M": lambda: _published("qwen2.5-14b", "Q4_K_M"),
    "Qwen2.5-Coder-32B Q5_K_M": lambda: _published("qwen2.5-32b", "Q5_K_M"),
    "Qwen3-30B-A3B Q4_K_M": lambda: with_experts(QWEN3_30B),
    "Qwen3-235B-A22B IQ4_XS": lambda: with_experts(QWEN3_235B),
    "gpt-oss-120b MXFP4": lambda: with_experts(GPT_OSS_120B),
}
"""Headers by the name that the table gives them."""
