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
