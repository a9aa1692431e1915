"""What each process holds on NVIDIA's cards, from their management library (NVML)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pynvml


class NvmlCardMemory:
    """Asks NVML, which opens the cards for a moment; it is asked only where a server was just started on them."""

    def used_bytes(self, pid: int) -> Mapping[str, int] | None:
        """Give what a process holds, by the cards' UUIDs.

        None where there is no NVML, and where it does not know the process: in a container it counts by the host's
        numbers, or not at all.
        """
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        try:
            held = dict(_held_by(pid))
        except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, UnicodeDecodeError):
            return None
        finally:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
        return held if any(held.values()) else None


def _held_by(pid: int) -> Iterator[tuple[str, int]]:
    """List every card with what the process holds there; a card that cannot be asked is left out."""
    for index in range(pynvml.nvmlDeviceGetCount()):
        with suppress(pynvml.NVMLError):
            card = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(card)
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
            # Old bindings give bytes.
            yield (uuid.decode() if isinstance(uuid, bytes) else uuid), _sum(pid, processes)


def _sum(pid: int, processes: list[Any]) -> int:
    """Add up a process's memory; NVML says None where the driver does not count it by process."""
    return sum(process.usedGpuMemory or 0 for process in processes if process.pid == pid)
