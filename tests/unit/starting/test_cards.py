"""Cards are named shortly, and seen once where two sources show them."""

from __future__ import annotations

import pytest

from kloros_infra.placement.card_table import short_name
from kloros_infra.starting.cards import joined_cards
from kloros_infra.starting.facts import FoundCard


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA GeForce RTX 3060", "rtx3060"),
        ("NVIDIA GeForce GTX 1080 Ti", "gtx1080ti"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx4070tisuper"),
        ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", "rtx2080super-with-max-q-design"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "rtx4060-laptop-gpu"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb-hbm3"),
        ("Tesla P40", "p40"),
        ("NVIDIA", ""),
        ("", ""),
    ],
)
def test_a_card_is_called_by_what_tells_it_from_others(name: str, short: str) -> None:
    assert short_name(name) == short


NVML = FoundCard(name="NVIDIA GeForce RTX 3060", pci="0000:04:00.0", vram_bytes=1)
ON_BUS = FoundCard(pci="0000:04:00.0")
LENT = FoundCard(pci="0000:07:00.0", obstacle="it is lent to a virtual machine (vfio-pci)")
LOST = FoundCard(pci="0000:08:00.0")


def test_what_nvml_knows_counts_and_what_it_lacks_is_named() -> None:
    first, second, third = joined_cards((NVML,), (ON_BUS, LENT, LOST))
    assert first == NVML
    assert second == LENT
    assert (third.pci, third.obstacle) == ("0000:08:00.0", "NVML does not list it")


def test_the_bus_alone_is_believed_where_nvml_cannot_be_asked() -> None:
    assert joined_cards(None, (ON_BUS, LENT)) == (ON_BUS, LENT)
