"""Cards as this machine has them, beside those that models.yaml declares."""

from __future__ import annotations

from dataclasses import dataclass

LESS = 0.97
"""What CUDA sees of a card is up to a twentieth less than what the driver names: nothing of the same card has less."""
MORE = 1.1


@dataclass(frozen=True, slots=True)
class SeenDevice:
    """An NVIDIA card on the PCI bus; None is not known. One that `is_usable` has a place in CUDA's order."""

    pci: str
    uuid: str | None = None
    model: str | None = None
    is_usable: bool = True


@dataclass(frozen=True, slots=True)
class DetectedCard:
    """A declared card as it is there; None is not known, and then what is declared holds.

    `has_replaced` says that the card in this place is another one than the declared.
    """

    name: str
    uuid: str | None = None
    pci: str | None = None
    total_bytes: int | None = None
    model: str | None = None
    has_replaced: bool = False


def has_other_memory(declared_bytes: int, total_bytes: int, *, is_same: bool) -> bool:
    """Say whether a card has other memory than was declared, as CUDA sees it.

    More than that is only told of a card that may be another one: somebody may keep some of it from us by declaring
    less.
    """
    return total_bytes < LESS * declared_bytes or (not is_same and total_bytes > MORE * declared_bytes)
