"""What each process holds on NVIDIA's cards, from their management library (NVML)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

import pynvml

from kloros_infra.adapters.nvml_thread import in_thread

DEADLINE_S = 2.0


class NvmlCardMemory:
    """Asks NVML, which opens the cards for a moment; it is asked only where a server was just started on them."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._is_mute = False

    def used_bytes(self, pid: int) -> Mapping[str, int] | None:
        """Give what a process holds, by the cards' UUIDs.

        None where there is no NVML, where it does not answer in time, after which it is not asked again, and where it
        does not know the process: in a container it counts by the host's numbers, or not at all.
        """
        if self._is_mute:
            return None
        asked = in_thread(lambda: _used_by(pid))
        wait((asked,), timeout=self._deadline_s)
        if not asked.done():
            self._is_mute = True
            return None
        return asked.result()


def _used_by(pid: int) -> Mapping[str, int] | None:
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
