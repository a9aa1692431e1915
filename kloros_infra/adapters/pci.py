"""Which declared cards are in this machine, read from sysfs and NVIDIA's /proc without waking a GPU.

NVML would open the devices and keep them busy; these files do not.
"""

from __future__ import annotations

from collections.abc import Iterable
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

    A UUID is asked of the driver; where the driver does not know it, the PCI address decides.
    """
    uuids = _driver_uuids(procfs)
    return frozenset(
        card.name for card in cards if card.uuid in uuids or (card.pci is not None and _is_at(sysfs, card.pci))
    )


def _is_at(sysfs: Path, address: str) -> bool:
    device = sysfs / "bus" / "pci" / "devices" / address
    try:
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return vendor == NVIDIA_VENDOR and (device / "driver").resolve().name != PASSED_THROUGH


def _driver_uuids(procfs: Path) -> frozenset[str]:
    """Read each card's `information` file; a card that the driver was told to exclude does not count."""
    found = set()
    for file in sorted(procfs.glob("driver/nvidia/gpus/*/information")):
        try:
            facts = dict(_fact(line) for line in file.read_text(errors="replace").splitlines())
        except OSError:
            continue  # unplugged between listing and reading
        if facts.get("GPU Excluded") != "Yes" and facts.get("GPU UUID"):
            found.add(facts["GPU UUID"])
    return frozenset(found)


def _fact(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()
