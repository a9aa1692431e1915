"""Guesses about a model: what it is for, what it costs, how long its context is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.migration.traits import GIB, cost_tier, kind_of, purpose_tags, usual_context
from tests.factories import a_gguf_header


@pytest.mark.parametrize(
    ("pooling", "architecture", "has_projector", "kind"),
    [
        (None, "llama", False, ModelKind.CHAT),
        (None, "llama", True, ModelKind.VISION),
        ("none", "llama", False, ModelKind.CHAT),
        ("last", "qwen3", False, ModelKind.EMBEDDING),
        (None, "nomic-bert", False, ModelKind.EMBEDDING),
        ("rank", "bert", False, ModelKind.RERANK),
    ],
)
def test_the_header_says_what_a_model_is_for(
    pooling: str | None, architecture: str, has_projector: bool, kind: ModelKind
) -> None:
    header = replace(a_gguf_header(architecture=architecture), pooling_type=pooling)
    assert kind_of(header, has_projector=has_projector) is kind


@pytest.mark.parametrize(
    ("name", "kind", "tags"),
    [
        ("qwen2.5-coder", ModelKind.CHAT, ("code_understanding", "code_generation")),
        ("starcoder2", ModelKind.CHAT, ("code_understanding", "code_generation")),
        ("deepseek-r1", ModelKind.CHAT, ("reasoning",)),
        ("llama3.2", ModelKind.CHAT, ("conversation",)),
        ("decoder", ModelKind.CHAT, ("conversation",)),
        ("llava", ModelKind.VISION, ("vision", "conversation")),
        ("coder-embed", ModelKind.EMBEDDING, ("rag_embedding",)),
        ("bge", ModelKind.RERANK, ("rag_reranking",)),
    ],
)
def test_a_name_says_what_a_model_is_good_for(name: str, kind: ModelKind, tags: tuple[str, ...]) -> None:
    assert purpose_tags(name, kind) == tags


@pytest.mark.parametrize(
    ("size_bytes", "tier"),
    [
        (None, CostTier.MEDIUM),
        (3 * GIB - 1, CostTier.LOW),
        (3 * GIB, CostTier.MEDIUM),
        (12 * GIB - 1, CostTier.MEDIUM),
        (12 * GIB, CostTier.HIGH),
    ],
)
def test_size_says_what_a_request_costs(size_bytes: int | None, tier: CostTier) -> None:
    assert cost_tier(size_bytes) is tier


@pytest.mark.parametrize(("trained", "chosen"), [(2048, 2048), (131072, 8192), (0, 8192), (8, 256)])
def test_no_context_is_beyond_training_unless_it_must_be(trained: int, chosen: int) -> None:
    assert usual_context(a_gguf_header(context=trained)) == chosen


def test_without_a_header_the_context_is_the_usual_one() -> None:
    assert usual_context(None) == 8192
