"""Bytes of a tensor, from ggml's block sizes (llama.cpp, ggml/src/ggml-common.h)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

BLOCKS: Mapping[str, tuple[int, int]] = {
    "BF16": (1, 2),
    "F16": (1, 2),
    "F32": (1, 4),
    "F64": (1, 8),
    "I16": (1, 2),
    "I32": (1, 4),
    "I64": (1, 8),
    "I8": (1, 1),
    "IQ1_M": (256, 56),
    "IQ1_S": (256, 50),
    "IQ2_S": (256, 82),
    "IQ2_XS": (256, 74),
    "IQ2_XXS": (256, 66),
    "IQ3_S": (256, 110),
    "IQ3_XXS": (256, 98),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
    "MXFP4": (32, 17),
    "NVFP4": (64, 36),
    "Q1_0": (128, 18),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q4_K": (256, 144),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "Q8_0": (32, 34),
    "Q8_1": (32, 40),
    "Q8_K": (256, 292),
    "TQ1_0": (256, 54),
    "TQ2_0": (256, 66),
}
"""Values in a block, and bytes of a block, by type."""


def tensor_bytes(type_: str, shape: Iterable[int]) -> int:
    """Say how many bytes a tensor takes; the first axis is made of whole blocks."""
    values, size_bytes = BLOCKS[type_]
    return prod(shape) // values * size_bytes
