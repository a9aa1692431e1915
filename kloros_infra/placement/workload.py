"""What an instance's server is started with, as far as memory and speed depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.catalog import Instance, KvType, Model, ModelKind, Serving
from kloros_infra.placement.architectures import ENCODERS

DEFAULT_MICRO_BATCH = 512
_CELLS_IN_A_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Workload:
    """What the memory beside the weights depends on.

    Each of `parallel` slots has its own context, or all share one where the cache is unified. With `gives_embeddings`
    every token of a micro-batch has an output, and not just the last of each slot.
    """

    context_tokens: int
    parallel: int
    micro_batch: int
    cache_type_k: KvType = KvType.F16
    cache_type_v: KvType = KvType.F16
    is_unified: bool = False
    gives_embeddings: bool = False

    @property
    def streams(self) -> int:
        """Count the caches (llama-kv-cache.cpp, n_stream)."""
        return 1 if self.is_unified else self.parallel

    @property
    def step_tokens(self) -> int:
        """Count the tokens of one step: a micro-batch, or all that there is room for (llama_context, n_batch)."""
        return min(self.micro_batch, self.streams * self.context_tokens)


def in_whole_blocks(tokens: int) -> int:
    """Round up to what llama.cpp makes caches of (src/llama-context.cpp, GGML_PAD of n_ctx)."""
    return -(-tokens // _CELLS_IN_A_BLOCK) * _CELLS_IN_A_BLOCK


def workload(instance: Instance) -> Workload:
    """Say what an instance's server is started with."""
    serving = instance.serving
    return Workload(
        context_tokens=serving.context_tokens,
        parallel=serving.parallel,
        micro_batch=_whole_text(serving) if _takes_whole_texts(instance.model) else DEFAULT_MICRO_BATCH,
        cache_type_k=serving.cache_type_k,
        cache_type_v=serving.cache_type_v,
        gives_embeddings=_gives_embeddings(instance.model),
    )


def _whole_text(serving: Serving) -> int:
    """Say how long a micro-batch is that takes a whole text: so many tokens that each slot has as many.

    llama.cpp reserves memory for a micro-batch of equal parts, and fails where it has to add tokens for that while it
    takes the mean of them (src/llama-context.cpp, graph_reserve; b10068).
    """
    return -(-max(DEFAULT_MICRO_BATCH, serving.context_tokens) // serving.parallel) * serving.parallel


def _gives_embeddings(model: Model) -> bool:
    """Say whether the server is told --embedding or --reranking (tools/server, server_n_outputs_max)."""
    return model.kind in (ModelKind.EMBEDDING, ModelKind.RERANK)


def _takes_whole_texts(model: Model) -> bool:
    """Say whether a text must be one micro-batch (tools/server/server-context.cpp, can_split).

    An encoder sees all of a text at once; a model that gives embeddings can take a text in pieces only where the
    last token stands for all of it.
    """
    header = model.weights.header
    return header.architecture in ENCODERS or (_gives_embeddings(model) and header.pooling_type != "last")
