"""Whether keys and values can be kept in the types that were asked for (KI405, KI406)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.catalog import Instance, KvType
from kloros_infra.placement import problems
from kloros_infra.placement.block_sizes import BLOCKS
from kloros_infra.placement.memory import ENCODERS

# Pairs that every CUDA build of llama.cpp computes attention for: one of these types for both. The others need
# -DGGML_CUDA_FA_ALL_QUANTS=ON; without it attention runs on the CPU (ggml/src/ggml-cuda/fattn.cu).
_BUILT_EVERYWHERE = frozenset({KvType.F32, KvType.F16, KvType.BF16, KvType.Q8_0, KvType.Q4_0})


def cache_type_problems(instance: Instance) -> Iterator[Diagnostic]:
    """Compare the types with the model's heads, and with what CUDA builds can do."""
    header, serving = instance.model.weights.header, instance.serving
    if header.architecture in ENCODERS:
        return
    for key, type_, length in (
        ("cache_type_k", serving.cache_type_k, header.key_length),
        ("cache_type_v", serving.cache_type_v, header.value_length),
    ):
        values, _ = BLOCKS[type_.name]
        # llama.cpp, src/llama-context.cpp, llama_init_from_model.
        if length % values:
            yield problems.cache_type_does_not_fit(instance, key, type_.value, length)
    choices = ((one, one) for one in serving.cache_type_choices)
    pairs = ((serving.cache_type_k, serving.cache_type_v), *choices)
    rare = tuple(pair for pair in pairs if pair[0] is not pair[1] or pair[0] not in _BUILT_EVERYWHERE)
    if instance.profile.cards and rare:
        yield problems.cache_types_need_a_build(instance, rare)
