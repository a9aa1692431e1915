"""Which declared cards are in this machine, read from sysfs and NVIDIA's /proc without waking a GPU.

NVML would open the devices and keep them busy; these files do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from kloros_infra.ir.catalog import Card
from kloros_infra.ir.routing import RoutedCard

NVIDIA_VENDOR = "0x10de"
# A card that is lent to a virtual machine is listed, but no process of this machine can use it.
PASSED_THROUGH = "vfio-pci"


SYSFS = Path("/sys")
PROCFS = Path("/proc")


def present_cards(cards: Iterable[Card | RoutedCard], sysfs: Path = SYSFS, procfs: Path = PROCFS) -> frozenset[str]:
    """Name the cards that are present in this machine; a card without identity never is.

    A UUID is asked of the driver; where the driver does not know it, the PCI address decides, unless another card is
    there.
    """
    facts = driver_facts(procfs)
    uuids = _driver_uuids(facts)
    return frozenset(
        card.name
        for card in cards
        if card.uuid in uuids
        or (card.pci is not None and _is_at(sysfs, card.pci) and not _is_another(card, facts.get(card.pci, {})))
    )


def _is_another(card: Card | RoutedCard, facts: Mapping[str, str]) -> bool:
    """Say whether the driver knows the card in this place by another UUID; one that it has not read has `?` in it."""
    there = facts.get("GPU UUID", "?")
    return card.uuid is not None and "?" not in there and there != card.uuid


def _is_at(sysfs: Path, address: str) -> bool:
    device = sysfs / "bus" / "pci" / "devices" / address
    try:
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return vendor == NVIDIA_VENDOR and (device / "driver").resolve().name != PASSED_THROUGH


def driver_facts(procfs: Path = PROCFS) -> Mapping[str, Mapping[str, str]]:
    """Read what NVIDIA's driver says of each of its cards, by PCI address: the lines of its `information` files."""
    found = {}
    for file in sorted(procfs.glob("driver/nvidia/gpus/*/information")):
        try:
            found[file.parent.name] = dict(_fact(line) for line in file.read_text(errors="replace").splitlines())
        except OSError:
            continue  # unplugged between listing and reading
    return found


def _driver_uuids(cards: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """Name the cards that the driver knows; one that it was told to exclude does not count."""
    known = (facts for facts in cards.values() if facts.get("GPU Excluded") != "Yes")
    return frozenset(facts["GPU UUID"] for facts in known if "GPU UUID" in facts)


def _fact(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()
