"""What NVIDIA's management library (NVML) tells about the cards: identity, memory, bandwidth, capability.

Asking it opens the devices for a moment, which wakes a sleeping card; so only commands that describe the machine ask.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import pynvml

from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.starting.facts import FoundCard

Value = TypeVar("Value")

# A data bus takes two values in each cycle of the memory clock that NVML gives, on GDDR and HBM alike.
TRANSFERS_PER_CLOCK = 2


def nvml_cards() -> tuple[tuple[FoundCard, ...] | None, Problems]:
    """Describe every card in NVML's order; None where NVML cannot be asked, with a warning unless it is not there."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return None, ()  # no NVIDIA driver: nothing to be said about a machine without such cards
    except pynvml.NVMLError as error:
        return None, (cannot_ask(error),)
    try:
        return tuple(_card(index) for index in range(pynvml.nvmlDeviceGetCount())), ()
    except pynvml.NVMLError as error:
        return None, (cannot_ask(error),)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _card(index: int) -> FoundCard:
    """Describe one card; one that has failed is described by its failure."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return FoundCard(obstacle=f"NVML cannot open card {index}: {error}")
    card = FoundCard(
        name=text_of(_asked(pynvml.nvmlDeviceGetName, handle)),
        uuid=text_of(_asked(pynvml.nvmlDeviceGetUUID, handle)),
        pci=address_of(_asked(lambda it: pynvml.nvmlDeviceGetPciInfo(it).busId, handle)),
        vram_bytes=_asked(lambda it: int(pynvml.nvmlDeviceGetMemoryInfo(it).total), handle),
        bandwidth_bytes_per_s=_asked(_bandwidth, handle),
        compute_capability=_asked(pynvml.nvmlDeviceGetCudaComputeCapability, handle),
    )
    if _asked(lambda it: pynvml.nvmlDeviceGetMigMode(it)[0], handle) == pynvml.NVML_DEVICE_MIG_ENABLE:
        return replace(card, obstacle="it is divided into MIG devices, and kloros-infra uses whole cards")
    return card


def _asked(question: Callable[[Any], Value], handle: Any) -> Value | None:
    """Ask one thing; None where the card, the driver or an old library does not know it, or gives no text for it."""
    try:
        return question(handle)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def _bandwidth(handle: Any) -> int:
    clock_mhz = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
    width_bits = pynvml.nvmlDeviceGetMemoryBusWidth(handle)
    return int(clock_mhz * 10**6 * TRANSFERS_PER_CLOCK * width_bits // 8)


def text_of(value: str | bytes | None) -> str | None:
    """Take text as it comes: bindings before 11.5 give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def address_of(value: str | bytes | None) -> str | None:
    """Write NVML's `00000000:04:00.0` as Linux does, with a domain of four digits."""
    found = re.fullmatch(r"0{4}([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", (text_of(value) or "").lower())
    return found[1] if found else None


def cannot_ask(error: Exception) -> Diagnostic:
    """Say why nothing is known from NVML."""
    return Diagnostic(
        code="KI561",
        summary="NVML does not answer",
        detail=f"NVIDIA's driver library is here, but it refused: {error}.",
        hint="See that the driver is loaded and of the library's version; after an update of the driver, reboot.",
        severity=Severity.WARNING,
    )
