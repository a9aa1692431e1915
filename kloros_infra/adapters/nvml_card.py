"""What NVML says of one declared card, once the library is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from kloros_infra.adapters.nvml import address_of, text_of
from kloros_infra.ir.card_facts import CardReading, Fault, FaultKind, Holder

NO_CARD = "the driver does not know it"
_LASTING = {
    pynvml.NVML_ERROR_GPU_IS_LOST: FaultKind.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: FaultKind.RESET_REQUIRED,
}
# With a library that was told to attach no card, one may be called uninitialized.
_UNKNOWN = (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_GPU_NOT_FOUND, pynvml.NVML_ERROR_UNINITIALIZED)
# The last is what the bindings raise for drivers before 510, and it is no NVMLError.
_NOT_LISTED = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission, pynvml.NVMLLibraryMismatchError)


@dataclass(frozen=True, slots=True)
class DriverCard:
    """A declared card, with the PCI address that the driver has for it where none is declared."""

    card: str
    uuid: str | None
    pci: str | None


def read_card(card: DriverCard, procfs: Path) -> CardReading:
    """Say how a card is used; one that cannot be asked says why, with a fault where that is one."""
    try:
        return _reading(card, handle_of(card), procfs)
    except pynvml.NVMLError as error:
        kind = _LASTING.get(error.value)
        faults = (Fault(kind, 0.0, is_lasting=True),) if kind else ()
        obstacle = NO_CARD if error.value in _UNKNOWN else str(error)
        return CardReading(card.card, card.uuid, card.pci, faults=faults, obstacle=obstacle)


def handle_of(card: DriverCard) -> Any:
    """Open a card by address, which opens no other one; a card that was put elsewhere is found by UUID."""
    handle = None
    if card.pci is not None:
        try:
            handle = pynvml.nvmlDeviceGetHandleByPciBusId(card.pci)
        except pynvml.NVMLError as error:
            if card.uuid is None or error.value not in _UNKNOWN:
                raise
    if handle is not None and (card.uuid is None or _uuid(handle) in (None, card.uuid)):
        return handle
    if card.uuid is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
    return pynvml.nvmlDeviceGetHandleByUUID(card.uuid)


def _reading(card: DriverCard, handle: Any, procfs: Path) -> CardReading:
    uuid, pci = _uuid(handle) or card.uuid, address_of(pynvml.nvmlDeviceGetPciInfo(handle).busId) or card.pci
    if _is_divided(handle):
        return CardReading(card.card, uuid, pci, obstacle="it is divided into MIG devices")
    try:
        # First what is in use: what comes meanwhile is then nobody's, and not taken for another's.
        memory = _memory(handle)
    except pynvml.NVMLError_NotSupported:
        return CardReading(card.card, uuid, pci, obstacle="it does not say how much of its memory is in use")
    return CardReading(card.card, uuid, pci, int(memory.total), int(memory.used), tuple(_processes(handle, procfs)))


def _uuid(handle: Any) -> str | None:
    try:
        return text_of(pynvml.nvmlDeviceGetUUID(handle))
    except (pynvml.NVMLError_NotSupported, UnicodeDecodeError):
        return None


def _is_divided(handle: Any) -> bool:
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return False


def _memory(handle: Any) -> Any:
    """Ask for memory without what the driver keeps for itself; drivers before 510 do not tell these apart."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported, pynvml.NVMLError_ArgumentVersionMismatch):
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _processes(handle: Any, procfs: Path) -> Iterator[Holder]:
    """List who holds memory; a process that computes and draws is in both lists, with all it holds in each."""
    held: dict[int, int | None] = {}
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        for pid, size in _listed(ask, handle).items():
            known = held.get(pid)
            held[pid] = size if known is None else max(known, size or 0)
    for pid in sorted(held):
        yield Holder(pid, _process_name(pid, procfs), held[pid])


def _listed(ask: Any, handle: Any) -> dict[int, int | None]:
    """Add up what each process holds; None where the driver does not count it by process."""
    found: dict[int, int | None] = {}
    with suppress(*_NOT_LISTED):
        for process in ask(handle):
            before = found.get(process.pid, 0)
            is_counted = before is not None and process.usedGpuMemory is not None
            found[process.pid] = before + process.usedGpuMemory if is_counted else None
    return found


def _process_name(pid: int, procfs: Path) -> str:
    """Name a process as the kernel does, or by its program as NVML knows it."""
    with suppress(OSError):
        return _plain((procfs / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n"))
    with suppress(pynvml.NVMLError, UnicodeDecodeError):
        command = text_of(pynvml.nvmlSystemGetProcessName(pid)) or ""
        return _plain(command.partition(" ")[0].rpartition("/")[2]) or "unknown"
    return "unknown"


def _plain(name: str) -> str:
    """Anybody names his processes: a name cannot steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
