"""Instance → what the external gguf-tensor-overrider is asked for it.

The tool counts in its own way: it knows no compute buffers and no reserve, and fills a share of each card's whole
memory. A card is therefore shown as CUDA sees it, with the share that models may have; shares of models.yaml become
such ceilings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from math import ceil, floor

from kloros_infra.ir.catalog import Card, Instance
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.overrider_record import OverriderQuestion, ShownCard
from kloros_infra.placement.memory import kv_by_layer
from kloros_infra.placement.workload import workload

CEILING = 0.9
"""The share of a card that the tool fills where it is not told another (src/optimize.ts, gpuPercentage)."""

_MIB = 2**20
_STEPS = 10_000


def question_of(instance: Instance) -> OverriderQuestion:
    """Say what the tool is asked for an instance."""
    work = workload(instance)
    return OverriderQuestion(
        facts_sha256=_facts_sha256(instance.model.weights.header),
        cards=tuple(_shown_cards(instance)),
        context_tokens=work.context_tokens * work.parallel,
        parallel=work.parallel,
        cache_type_k=work.cache_type_k,
        cache_type_v=work.cache_type_v,
        micro_batch=work.micro_batch,
    )


def _facts_sha256(header: GgufHeader) -> str:
    """Digest what the tool reads: facts that later versions of this program learn leave answers as they are."""
    rows = [[group.name, group.type, group.shape, group.layers] for group in header.tensors]
    facts = [header.architecture, header.layer_count, header.embedding_length, header.head_count, header.head_count_kv]
    return hashlib.sha256(json.dumps([*facts, rows]).encode()).hexdigest()


def _shown_cards(instance: Instance) -> Iterable[ShownCard]:
    needs = _needs_bytes(instance)
    for card, needed in zip(instance.profile.cards, needs, strict=True):
        memory_mib = card.vram_bytes // _MIB
        share = min(1.0, needed / card.vram_bytes) if card.vram_bytes else 0.0
        wanted = ceil(share * _STEPS) / _STEPS
        # The tool splits its list of cards at commas.
        yield ShownCard((card.model or card.name).replace(",", " "), memory_mib, min(wanted, _most(card)))


def _most(card: Card) -> float:
    usable = floor(card.usable_bytes / card.vram_bytes * _STEPS) / _STEPS if card.vram_bytes else 0.0
    return min(CEILING, usable)


def _needs_bytes(instance: Instance) -> Iterable[float]:
    """Say what each card shall take: its share of the whole, and room for one tensor that does not divide."""
    shares, cards = instance.gpu_percentages, instance.profile.cards
    if not shares:
        return [float(card.vram_bytes) for card in cards]
    header = instance.model.weights.header
    whole = header.weights_bytes + sum(kv_by_layer(header, workload(instance)))
    largest = max((group.size_bytes for group in header.tensors), default=0)
    return [share / sum(shares) * whole + largest if share else 0.0 for share in shares]
