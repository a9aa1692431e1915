"""Find the card that people mean: by its name in models.yaml, UUID, PCI address or place among the declared cards."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kloros_infra.ir.card_facts import DeclaredCard

# NVML writes a domain of eight digits, lspci none where it is 0000.
_PCI = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE)


def card_of(token: str, cards: Sequence[DeclaredCard]) -> str | None:
    """Name the card of this host that a word stands for."""
    found = meant_by(token, cards)
    return None if found is None or found.is_lent else found.name


def meant_by(token: str, cards: Sequence[DeclaredCard]) -> DeclaredCard | None:
    """Find the card that a word stands for; a card's own name wins over a place of the same digits.

    Places are those in `gpu list`, which shows lent cards as well: that one may be meant is for the caller to refuse.
    """
    word = token.strip()
    by_name = next((card for card in cards if card.name == word), None)
    return by_name or _by_identity(word, cards) or _by_place(word, cards)


def _by_identity(word: str, cards: Sequence[DeclaredCard]) -> DeclaredCard | None:
    low, address = word.lower(), _address(word)
    for card in cards:
        is_it = (card.uuid is not None and card.uuid.lower() == low) or (card.pci is not None and card.pci == address)
        # Another host has a bus of its own.
        if is_it and not card.is_lent:
            return card
    return None


def _address(word: str) -> str | None:
    """Write a PCI address as Linux does."""
    found = _PCI.fullmatch(word)
    return f"{int(found[1] or '0', 16):04x}:{found[2].lower()}" if found else None


def _by_place(word: str, cards: Sequence[DeclaredCard]) -> DeclaredCard | None:
    is_place = word.isascii() and word.isdecimal() and len(word) <= 3
    return cards[int(word)] if is_place and int(word) < len(cards) else None
