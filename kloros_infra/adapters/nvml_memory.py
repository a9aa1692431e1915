"""What is in use of NVIDIA's cards, and by which processes, from their management library (NVML)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pynvml

from kloros_infra.adapters.nvml import address_of, text_of
from kloros_infra.ir.seen_card import SeenCard

DRIVER = Path("/sys/bus/pci/drivers/nvidia")


class NvmlCards:
    """Implements `daemon.ports.CardMemory`; cards that all sleep are left asleep, as nobody uses them."""

    def __init__(self, driver: Path = DRIVER, proc: Path = Path("/proc")) -> None:
        self._driver = driver
        self._proc = proc

    def read(self) -> tuple[SeenCard, ...] | None:
        """Say how each card is used; None where no driver answers."""
        if self._all_sleep():
            return ()
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        try:
            return tuple(_seen())
        except (pynvml.NVMLError, UnicodeDecodeError):
            return None
        finally:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def family(self, pid: int) -> frozenset[int]:
        """Give a process and its descendants, as far as /proc shows them (proc_pid_task(5), `children`)."""
        family, new = {pid}, [pid]
        while new:
            children = self._children(new.pop()) - family
            family |= children
            new += children
        return frozenset(family)

    def _children(self, pid: int) -> set[int]:
        """Each thread has its own; ProtectProc= hides those of other users."""
        found: set[int] = set()
        for file in self._proc.glob(f"{pid}/task/*/children"):
            with suppress(OSError):
                found |= {int(child) for child in file.read_text().split()}
        return found

    def _all_sleep(self) -> bool:
        """Say whether opening the cards would wake them (Linux, Documentation/ABI/testing/sysfs-devices-power)."""
        states = []
        for file in self._driver.glob("*/power/runtime_status"):
            with suppress(OSError):
                states.append(file.read_text().strip())
        return bool(states) and all(state == "suspended" for state in states)


def _seen() -> Iterator[SeenCard]:
    """List the cards; one that cannot be asked is left out."""
    for index in range(pynvml.nvmlDeviceGetCount()):
        with suppress(pynvml.NVMLError):
            card = pynvml.nvmlDeviceGetHandleByIndex(index)
            # First what is in use: what comes meanwhile is then nobody's, and not taken for another's.
            memory = pynvml.nvmlDeviceGetMemoryInfo(card)
            uuid, pci = text_of(pynvml.nvmlDeviceGetUUID(card)), _pci(card)
            yield SeenCard(uuid, pci, int(memory.total), int(memory.used), _held(card))


def _pci(card: Any) -> str | None:
    return address_of(pynvml.nvmlDeviceGetPciInfo(card).busId)


def _held(card: Any) -> dict[int, int]:
    """Add up what each process holds; NVML says None where the driver does not count it by process.

    A driver that is older than nvidia-ml-py's own list of processes has none that could be read.
    """
    held: dict[int, int] = {}
    try:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
    except pynvml.NVMLLibraryMismatchError:
        return held
    for process in processes:
        if process.usedGpuMemory is not None:
            held[process.pid] = held.get(process.pid, 0) + process.usedGpuMemory
    return held
