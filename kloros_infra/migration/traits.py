"""What a model is good for and what it costs, guessed from its name, its header and its size.

The design document's words are used where they fit. A guess stands in models.yaml for everyone to see and correct.
"""

from __future__ import annotations

import re

from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.gguf import GgufHeader

GIB = 2**30
USUAL_CONTEXT_TOKENS = 8192
"""Where nothing is said. Ollama's own default moved from 2048 to what the cards hold; this is enough for a conversation
and costs little memory."""
LEAST_CONTEXT_TOKENS = 256

CONVERSATION = "conversation"
_TAGS_BY_KIND = {ModelKind.EMBEDDING: ("rag_embedding",), ModelKind.RERANK: ("rag_reranking",)}
_TAGS_BY_WORD = (
    (r"code|coder|codestral|devstral|starcoder", ("code_understanding", "code_generation")),
    (r"r1|qwq|reason|reasoner|reasoning|thinking|magistral|deepthink", ("reasoning",)),
)

# Architectures that llama.cpp embeds with where the file names no pooling (src/llama-arch.cpp).
_EMBEDDERS = frozenset(
    {"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "t5encoder"}
)


def kind_of(header: GgufHeader, *, has_projector: bool = False) -> ModelKind:
    """Say what a model is asked for, by its header."""
    if header.pooling_type == "rank":
        return ModelKind.RERANK
    if header.pooling_type not in (None, "none") or header.architecture in _EMBEDDERS:
        return ModelKind.EMBEDDING
    return ModelKind.VISION if has_projector else ModelKind.CHAT


def purpose_tags(name: str, kind: ModelKind) -> tuple[str, ...]:
    """Guess what a model is good for, its speciality first."""
    if kind in _TAGS_BY_KIND:
        return _TAGS_BY_KIND[kind]
    words = re.split(r"[^a-z0-9]+", name.lower())
    for pattern, tags in _TAGS_BY_WORD:
        if any(re.fullmatch(rf"({pattern})[0-9.]*", word) for word in words):
            return tags
    return ("vision", CONVERSATION) if kind is ModelKind.VISION else (CONVERSATION,)


def cost_tier(size_bytes: int | None) -> CostTier:
    """Say what a request costs, by the size of the weights."""
    return CostTier.MEDIUM if size_bytes is None else CostTier.of_weights(size_bytes)


def usual_context(header: GgufHeader | None) -> int:
    """Choose a context where nothing asks for one: no more than the model was trained for."""
    trained = header.context_length if header is not None else USUAL_CONTEXT_TOKENS
    return max(LEAST_CONTEXT_TOKENS, min(trained or USUAL_CONTEXT_TOKENS, USUAL_CONTEXT_TOKENS))
