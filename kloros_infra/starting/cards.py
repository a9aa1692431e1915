"""Two views of the cards → one: NVML knows more, the bus shows cards that NVML does not have."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.starting.facts import FoundCard


def joined_cards(from_nvml: tuple[FoundCard, ...] | None, on_bus: tuple[FoundCard, ...]) -> tuple[FoundCard, ...]:
    """Join what NVML tells (None: it cannot be asked) with what is on the bus."""
    if from_nvml is None:
        return on_bus
    known = {card.pci for card in from_nvml}
    missing = (card for card in on_bus if card.pci not in known)
    return (*from_nvml, *(replace(card, obstacle=card.obstacle or "NVML does not list it") for card in missing))
