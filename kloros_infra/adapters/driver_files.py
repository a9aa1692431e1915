"""NVIDIA cards as sysfs and the driver's files in /proc show them: what is left where NVML cannot be asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kloros_infra.adapters.pci import NVIDIA_VENDOR, PASSED_THROUGH, PROCFS, SYSFS, driver_facts
from kloros_infra.ir.detected_card import SeenDevice
from kloros_infra.starting.facts import FoundCard

# PCI Code and ID Assignment Specification: 03 is a display controller; a card's sound is a device of its own.
_DISPLAY = re.compile(r"0x03[0-9a-f]{4}")


def driver_cards(sysfs: Path = SYSFS, procfs: Path = PROCFS) -> tuple[FoundCard, ...]:
    """Describe every NVIDIA card on the PCI bus, by address; one that CUDA cannot use says why."""
    facts = driver_facts(procfs)
    return tuple(
        FoundCard(
            name=facts.get(address, {}).get("Model") or None,
            uuid=facts.get(address, {}).get("GPU UUID") or None,
            pci=address,
            obstacle=_obstacle(driver, facts.get(address, {}).get("GPU Excluded")),
        )
        for address, driver in sorted(_devices(sysfs))
    )


def seen_devices(sysfs: Path = SYSFS, procfs: Path = PROCFS) -> tuple[SeenDevice, ...]:
    """List the NVIDIA cards on the PCI bus for whoever knows which there should be."""
    found = ((card, card.pci) for card in driver_cards(sysfs, procfs))
    return tuple(SeenDevice(pci, card.uuid, card.name, not card.obstacle) for card, pci in found if pci is not None)


def _devices(sysfs: Path) -> Iterator[tuple[str, str]]:
    """List (address, driver); no driver is an empty name."""
    for device in sysfs.glob("bus/pci/devices/*"):
        try:
            vendor, kind = ((device / file).read_text(errors="replace").strip() for file in ("vendor", "class"))
        except OSError:
            continue  # unplugged between listing and reading
        if vendor == NVIDIA_VENDOR and _DISPLAY.fullmatch(kind):
            bound = device / "driver"
            yield device.name, bound.resolve().name if bound.exists() else ""


def _obstacle(driver: str, excluded: str | None) -> str:
    match driver:
        case "nvidia":
            return "the driver was told to exclude it" if excluded == "Yes" else ""
        case "":
            return "no driver is bound to it; CUDA needs NVIDIA's"
        case _ if driver == PASSED_THROUGH:
            return f"it is lent to a virtual machine ({PASSED_THROUGH})"
        case _:
            return f"its driver is {driver}; CUDA needs NVIDIA's"
