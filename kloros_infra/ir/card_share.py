"""How much of its cards an instance takes, as its unit file says it: what plan compares must be on the machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CARD_SHARES_KEY = "X-Kloros-Vram"
MIB = 2**20
CONTEXT_BYTES = 300 * MIB
"""What a server holds of each card that it sees, beside what it allocates: its CUDA context, on cards from Pascal to
Blackwell without the buffers of llama.cpp. That of one server is in a card's `reserve`."""


@dataclass(frozen=True, slots=True)
class CardShare:
    """Predicted use of one card by one instance, and what the card can hold for all of them."""

    card: str
    used_mib: int
    capacity_mib: int


def shares_text(shares: Iterable[CardShare]) -> str:
    """Write shares as one value: `rtx3060:4913/11776 gtx1080ti:2048/10752`, in MiB."""
    return " ".join(f"{share.card}:{share.used_mib}/{share.capacity_mib}" for share in shares)


def read_shares(text: str) -> tuple[CardShare, ...]:
    """Read what `shares_text` wrote; words of another shape, by another hand or version, are passed over."""
    found = []
    for word in text.split():
        card, _, figures = word.rpartition(":")
        used, _, capacity = figures.partition("/")
        if card and used.isdecimal() and capacity.isdecimal():
            found.append(CardShare(card, int(used), int(capacity)))
    return tuple(found)
