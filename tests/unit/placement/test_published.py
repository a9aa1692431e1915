"""Derived headers against the files that were published."""

from __future__ import annotations

from collections import Counter

import pytest

from kloros_infra.compiler.header_json import header_from_json, header_to_json
from kloros_infra.placement.published import QUANTIZATIONS, SHAPES, derive_header

# A GGUF is its weights and a header, which is mostly the vocabulary: 6 MB for Qwen2.5, 8 MB for Llama 3.
HEADER_BYTES = 9e6


@pytest.mark.parametrize(
    ("architecture", "quantization", "published_bytes"),
    [
        ("qwen2.5-7b", "Q4_0", 4.431e9),
        ("qwen2.5-7b", "Q4_K_M", 4.683e9),
        ("qwen2.5-7b", "Q6_K", 6.254e9),
        ("qwen2.5-14b", "Q4_K_M", 8.988e9),
        ("qwen2.5-32b", "Q5_K_M", 23.262e9),
        ("qwen2.5-72b", "Q4_K_M", 47.416e9),
        ("llama-3.1-8b", "Q4_K_M", 4.921e9),
        ("llama-3.1-8b", "Q8_0", 8.541e9),
        ("nomic-embed-text-v1.5", "F16", 0.2743e9),
    ],
)
def test_sizes_are_those_of_the_published_files(architecture: str, quantization: str, published_bytes: float) -> None:
    header = derive_header(architecture, quantization)

    assert header is not None
    assert 0 < published_bytes - header.weights_bytes < HEADER_BYTES


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("architecture", SHAPES)
def test_every_header_can_be_locked(architecture: str, quantization: str) -> None:
    header = derive_header(architecture, quantization)

    assert header is not None
    assert header_from_json(header_to_json(header)) == header


@pytest.mark.parametrize(("architecture", "quantization"), [("qwen9-1b", "Q4_0"), ("qwen2.5-7b", "Q4")])
def test_nothing_is_derived_from_unknown_names(architecture: str, quantization: str) -> None:
    assert derive_header(architecture, quantization) is None


def types_of(architecture: str, quantization: str, ending: str) -> dict[str, int]:
    """Count the types of the tensors whose names end so."""
    header = derive_header(architecture, quantization)
    assert header is not None
    found: Counter[str] = Counter()
    for group in header.tensors:
        if group.name.endswith(ending):
            found[group.type] += len(group.layers or (None,))
    return dict(found)


@pytest.mark.parametrize(
    ("architecture", "quantization", "ending", "types"),
    [
        # Half of the layers get more bits: the outer eighths and every third between.
        ("qwen2.5-7b", "Q4_K_M", "ffn_down.weight", {"Q6_K": 14, "Q4_K": 14}),
        ("qwen2.5-7b", "Q4_K_M", "attn_v.weight", {"Q6_K": 14, "Q4_K": 14}),
        ("qwen2.5-7b", "Q4_K_M", "attn_k.weight", {"Q4_K": 28}),
        ("qwen2.5-7b", "Q4_0", "ffn_down.weight", {"Q4_0": 28}),
        ("qwen2.5-7b", "Q4_0", "attn_v.bias", {"F32": 28}),
        ("qwen2.5-7b", "Q4_0", "token_embd.weight", {"Q4_0": 1}),
        ("qwen2.5-7b", "Q4_0", "blk.*.ffn_norm.weight", {"F32": 28}),
        ("qwen2.5-7b", "F16", "attn_q.weight", {"F16": 28}),
        ("qwen2.5-7b", "Q8_0", "token_embd.weight", {"Q8_0": 1}),
        # Rows of 896 values are not made of blocks of 256; the tied embedding is the head.
        ("qwen2.5-0.5b", "Q4_K_M", "token_embd.weight", {"Q8_0": 1}),
        ("qwen2.5-0.5b", "Q4_K_M", "attn_q.weight", {"Q5_0": 24}),
        ("qwen2.5-0.5b", "Q5_K_M", "attn_q.weight", {"Q5_1": 24}),
        ("qwen2.5-0.5b", "Q6_K", "attn_q.weight", {"Q8_0": 24}),
        ("qwen2.5-1.5b", "Q4_K_M", "token_embd.weight", {"Q6_K": 1}),
        # Eighty layers pass for a 70B.
        ("qwen2.5-72b", "Q4_K_M", "attn_v.weight", {"Q6_K": 40, "Q5_K": 40}),
        ("qwen2.5-72b", "Q5_K_M", "attn_v.weight", {"Q6_K": 40, "Q5_K": 40}),
        ("qwen2.5-72b", "Q4_K_M", "ffn_down.weight", {"Q8_0": 40, "Q5_0": 40}),
        ("nomic-embed-text-v1.5", "Q4_K_M", "attn_qkv.weight", {"Q5_K": 12}),
        ("nomic-embed-text-v1.5", "Q5_K_M", "attn_qkv.weight", {"Q6_K": 12}),
        ("nomic-embed-text-v1.5", "F16", "token_types.weight", {"F32": 1}),
    ],
)
def test_tensors_get_llama_quantize_s_types(
    architecture: str, quantization: str, ending: str, types: dict[str, int]
) -> None:
    assert types_of(architecture, quantization, ending) == types
