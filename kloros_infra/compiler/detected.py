"""A part of pass 1, where it is wanted: the declared cards as they are there, in place of what is written of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kloros_infra.compiler.hardware import figures_of_gpu
from kloros_infra.compiler.parse import Parsed
from kloros_infra.ir.config_machine import GpuSpec, MeasuredSpec
from kloros_infra.ir.detected_card import DetectedCard, has_other_memory
from kloros_infra.placement.card_table import figures_of

FIGURES: dict[str, Any] = {
    "bandwidth": None,
    "compute_capability": None,
    "tflops": None,
    "layer_overhead": None,
    "measured": MeasuredSpec(),
}
"""What is declared of a card by its data sheet, or was measured of it: nothing of another card."""


def with_detected(parsed: Parsed, detected: Sequence[DetectedCard]) -> Parsed:
    """Put identity and memory of cards in the place of what is declared; cards that nobody declared stay unknown."""
    found = {card.name: card for card in detected}
    gpus = {
        name: _as_found(name, gpu, found[name]) if name in found else gpu for name, gpu in parsed.config.gpus.items()
    }
    return replace(parsed, config=parsed.config.model_copy(update={"gpus": gpus})) if found else parsed


def _as_found(name: str, gpu: GpuSpec, card: DetectedCard) -> GpuSpec:
    known = {"uuid": card.uuid, "pci": card.pci}
    identified = gpu.model_copy(update={key: value for key, value in known.items() if value is not None})
    other = _as_another(identified, card) if card.has_replaced else identified
    figures = figures_of_gpu(name, other)
    is_same = gpu.uuid is not None and not card.has_replaced
    if card.total_bytes is None or figures is None:
        return other
    if has_other_memory(figures.vram_bytes, card.total_bytes, is_same=is_same):
        return other.model_copy(update={"vram": card.total_bytes})
    return other


def _as_another(gpu: GpuSpec, card: DetectedCard) -> GpuSpec:
    """Take the figures of the card that is there now, where they are known; else those that are written stay."""
    known = figures_of(card.model or "")
    if known is None:
        return gpu
    return gpu.model_copy(update={**FIGURES, "name": card.model, "vram": known.memory_bytes})
