"""Which type each tensor gets when llama.cpp quantizes a model (src/llama-quant.cpp, llama_tensor_get_type)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.placement.block_sizes import BLOCKS

BASE_TYPES: Mapping[str, str] = {
    "F16": "F16",
    "Q4_0": "Q4_0",
    "Q4_K_M": "Q4_K",
    "Q5_K_M": "Q5_K",
    "Q6_K": "Q6_K",
    "Q8_0": "Q8_0",
}
"""The type of most tensors, by the name of the whole quantization."""

# Where rows are not made of whole blocks of 256 values (tensor_type_fallback).
_FALLBACKS: Mapping[str, str] = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
# One step up for the fused query, key and value tensor.
_FUSED: Mapping[str, str] = {"Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}
_MIXED = frozenset(_FUSED)
# llama.cpp takes every dense model of 80 layers for a 70B (LLM_TYPE_70B), whose eight query heads share a value head.
_LAYERS_OF_A_70B = 80
_NEVER_QUANTIZED = frozenset({"token_types.weight", "position_embd.weight"})


@dataclass(frozen=True, slots=True)
class Quantization:
    """A quantization applied to one model."""

    name: str
    layer_count: int
    has_output: bool

    def type_of(self, tensor: str, shape: tuple[int, ...]) -> str:
        """Say which type llama-quantize gives a tensor."""
        if len(shape) < 2 or tensor in _NEVER_QUANTIZED:
            return "F32"
        wanted = self._wanted(tensor, shape)
        whole_blocks = shape[0] % BLOCKS[wanted][0] == 0
        return wanted if whole_blocks else _FALLBACKS[wanted]

    def _wanted(self, tensor: str, shape: tuple[int, ...]) -> str:
        base = BASE_TYPES[self.name]
        if tensor == ("output.weight" if self.has_output else "token_embd.weight"):
            return self._of_the_head(base, shape)
        if not tensor.startswith("blk.") or self.name not in _MIXED:
            return base
        _, layer, kind, _ = tensor.split(".")
        match kind:
            case "attn_qkv":
                return _FUSED[self.name]
            case "attn_v" | "ffn_down" if _gets_more_bits(int(layer), self.layer_count):
                return "Q6_K"
            case "attn_v" if self.layer_count == _LAYERS_OF_A_70B and base == "Q4_K":
                return "Q5_K"
            case _:
                return base

    def _of_the_head(self, base: str, shape: tuple[int, ...]) -> str:
        if base in ("F16", "Q8_0"):
            return base
        return "Q6_K" if shape[0] % BLOCKS["Q6_K"][0] == 0 else "Q8_0"


def _gets_more_bits(layer: int, layers: int) -> bool:
    """Say whether a layer is among the first or last eighth, or every third between (use_more_bits)."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
