"""Divide layers among cards: consecutive runs, in the order of the cards, as llama.cpp's --tensor-split does."""

from __future__ import annotations

from collections.abc import Sequence


def by_share(layers: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Divide by largest remainder; of equal remainders the earlier card's counts more."""
    whole = sum(shares)
    exact = [layers * share / whole for share in shares]
    counts = [int(amount) for amount in exact]
    by_remainder = sorted(range(len(shares)), key=lambda card: (counts[card] - exact[card], card))
    for card in by_remainder[: layers - sum(counts)]:
        counts[card] += 1
    return tuple(counts)


def moved(counts: tuple[int, ...], over: Sequence[int]) -> tuple[int, ...] | None:
    """Move a layer from the fullest card to the emptiest; None when no card is too full or none has room.

    `over` says by how many bytes each card is beyond its capacity, negative where there is room.
    """
    cards = range(len(counts))
    fullest = max(cards, key=lambda card: (over[card], -card))
    emptiest = min(cards, key=lambda card: (over[card], card))
    if over[fullest] <= 0 or over[emptiest] >= 0 or counts[fullest] == 0:
        return None
    change = {fullest: -1, emptiest: 1}
    return tuple(count + change.get(card, 0) for card, count in enumerate(counts))
