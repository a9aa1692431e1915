"""Headers of well-known models, for weights that cannot be reached while the lock is written.

The figures are those of each model's own config.json on Hugging Face, named beside it; tensor names are those that
llama.cpp's converter gives. A fine-tune (Qwen2.5-Coder, DeepSeek-R1-Distill-Qwen) has the shapes of its base.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.ir.gguf import GgufHeader, Tensor, group_tensors
from kloros_infra.placement.block_sizes import tensor_bytes
from kloros_infra.placement.quantization import BASE_TYPES, Quantization

Rows = Iterator[tuple[str, tuple[int, ...]]]

# Rotation frequencies of one head, as a tensor of their own (llama.cpp, conversion of rope_scaling "llama3").
_LLAMA3_FREQUENCIES = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """What a config.json says: `architecture` is llama.cpp's name for the family."""

    architecture: str
    layers: int
    embedding: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    has_output: bool = True


SHAPES: Mapping[str, Shape] = {
    # Qwen/Qwen2.5-*; tie_word_embeddings is true up to 3B.
    "qwen2.5-0.5b": Shape("qwen2", 24, 896, 4864, 14, 2, 151936, 32768, has_output=False),
    "qwen2.5-1.5b": Shape("qwen2", 28, 1536, 8960, 12, 2, 151936, 32768, has_output=False),
    "qwen2.5-3b": Shape("qwen2", 36, 2048, 11008, 16, 2, 151936, 32768, has_output=False),
    "qwen2.5-7b": Shape("qwen2", 28, 3584, 18944, 28, 4, 152064, 32768),
    "qwen2.5-14b": Shape("qwen2", 48, 5120, 13824, 40, 8, 152064, 32768),
    "qwen2.5-32b": Shape("qwen2", 64, 5120, 27648, 40, 8, 152064, 32768),
    "qwen2.5-72b": Shape("qwen2", 80, 8192, 29568, 64, 8, 152064, 32768),
    # meta-llama/Llama-3.1-8B
    "llama-3.1-8b": Shape("llama", 32, 4096, 14336, 32, 8, 128256, 131072),
    # nomic-ai/nomic-embed-text-v1.5; the converter drops the padding of config.json's 30528 words.
    "nomic-embed-text-v1.5": Shape("nomic-bert", 12, 768, 3072, 12, 12, 30522, 2048, has_output=False),
}
"""What can be derived, by the names that `architecture` takes in models.yaml."""

QUANTIZATIONS = tuple(BASE_TYPES)
"""What `quantization` takes in models.yaml where a header is derived."""


def derive_header(architecture: str, quantization: str) -> GgufHeader | None:
    """Compute the header that a published model has; None when one of the two names is unknown."""
    shape = SHAPES.get(architecture)
    if shape is None or quantization not in BASE_TYPES:
        return None
    types = Quantization(quantization, shape.layers, shape.has_output)
    typed = ((name, types.type_of(name, extents), extents) for name, extents in _rows(shape))
    head = shape.embedding // shape.heads
    return GgufHeader(
        architecture=shape.architecture,
        layer_count=shape.layers,
        embedding_length=shape.embedding,
        feed_forward_length=shape.feed_forward,
        head_count=shape.heads,
        head_count_kv=(shape.kv_heads,) * shape.layers,
        key_length=head,
        value_length=head,
        context_length=shape.context,
        vocabulary_size=shape.vocabulary,
        tensors=group_tensors(Tensor(*row, tensor_bytes(*row[1:])) for row in typed),
    )


def _rows(shape: Shape) -> Rows:
    is_encoder = shape.architecture == "nomic-bert"
    yield "token_embd.weight", (shape.embedding, shape.vocabulary)
    if is_encoder:
        yield "token_embd_norm.weight", (shape.embedding,)
        yield "token_embd_norm.bias", (shape.embedding,)
        yield "token_types.weight", (shape.embedding, 2)
    for layer in range(shape.layers):
        rows = _encoder_layer(shape) if is_encoder else _decoder_layer(shape)
        yield from ((f"blk.{layer}.{name}", extents) for name, extents in rows)
    if not is_encoder:
        yield "output_norm.weight", (shape.embedding,)
    if shape.has_output:
        yield "output.weight", (shape.embedding, shape.vocabulary)
    if shape.architecture == "llama":
        yield "rope_freqs.weight", (_LLAMA3_FREQUENCIES,)


def _decoder_layer(shape: Shape) -> Rows:
    wide, ff = shape.embedding, shape.feed_forward
    kv = wide // shape.heads * shape.kv_heads
    yield "attn_norm.weight", (wide,)
    for name, out in (("attn_q", wide), ("attn_k", kv), ("attn_v", kv)):
        yield f"{name}.weight", (wide, out)
        if shape.architecture == "qwen2":
            yield f"{name}.bias", (out,)
    yield "attn_output.weight", (wide, wide)
    yield "ffn_norm.weight", (wide,)
    yield "ffn_gate.weight", (wide, ff)
    yield "ffn_up.weight", (wide, ff)
    yield "ffn_down.weight", (ff, wide)


def _encoder_layer(shape: Shape) -> Rows:
    wide, ff = shape.embedding, shape.feed_forward
    yield "attn_qkv.weight", (wide, 3 * wide)
    yield "attn_output.weight", (wide, wide)
    yield "ffn_gate.weight", (wide, ff)
    yield "ffn_up.weight", (wide, ff)
    yield "ffn_down.weight", (ff, wide)
    for norm in ("attn_output_norm", "layer_output_norm"):
        yield f"{norm}.weight", (wide,)
        yield f"{norm}.bias", (wide,)
