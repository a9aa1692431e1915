"""Hear what the driver reports of cards (XIDs), through nvmlEventSetWait of NVIDIA's management library (NVML).

Whoever listens holds the cards open. So only those that are ours to use are listened to, and none that may fall asleep:
an open card stays awake (NVIDIA's driver, README, "Runtime D3 power management"). The call may hang in the kernel with
a card that has failed, so a thread of its own makes it, which keeps nobody from ending.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import pynvml

from kloros_infra.adapters.nvml_card import DriverCard, handle_of
from kloros_infra.adapters.nvml_facts import LEAST, USUAL
from kloros_infra.adapters.pci import PROCFS, SYSFS, driver_facts
from kloros_infra.ir.card_facts import DeclaredCard

log = logging.getLogger(__name__)

WAIT_S = 0.5
"""How long one wait lasts: cards that are to be let go of are held no longer than that."""
PAUSE_S = 60.0
"""How long to wait after listening has failed twice: the driver may be loaded, updated or reset."""


class NvmlEvents:
    """Implements `agent.ports.CardEvents`; `told` gets a card and an XID, or None for the XID where listening failed.

    It is called on the listening thread.
    """

    def __init__(
        self,
        told: Callable[[str, int | None], None],
        *,
        pause_s: float = PAUSE_S,
        sysfs: Path = SYSFS,
        procfs: Path = PROCFS,
    ) -> None:
        self._told = told
        self._pause_s = pause_s
        self._sysfs = sysfs
        self._procfs = procfs
        self._flags = LEAST
        self._wanted: tuple[DriverCard, ...] = ()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, cards: Sequence[DeclaredCard]) -> None:
        """Listen to these cards from now on; who wants none has no thread."""
        places = {facts.get("GPU UUID"): address for address, facts in driver_facts(self._procfs).items()}
        known = (DriverCard(card.name, card.uuid, card.pci or places.get(card.uuid)) for card in cards)
        wanted = tuple(card for card in known if self._stays_awake(card))
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()
        if wanted and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nvml-events", daemon=True)
            self._thread.start()

    def _stays_awake(self, card: DriverCard) -> bool:
        """Say whether the kernel may not put a card to sleep (Linux, Documentation/ABI/testing/sysfs-devices-power)."""
        if card.pci is None:
            return True
        try:
            control = (self._sysfs / "bus" / "pci" / "devices" / card.pci / "power" / "control").read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return True
        return control.strip() != "auto"

    def _run(self) -> None:
        """Listen for ever; once listening fails it is begun anew, and when that fails as well, after a pause."""
        failures = 0
        while True:
            self._changed.clear()
            cards = self._wanted
            try:
                if cards:
                    self._listen(cards)
                failures = 0
            except pynvml.NVMLError as error:
                failures += 1
                if failures == 2 and error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
                    log.warning("the driver's reports of cards are not heard: %s", error)
                    for card in cards:
                        self._told(card.card, None)
            if not cards or failures > 1:
                self._changed.wait(self._pause_s if cards else None)

    def _listen(self, cards: Sequence[DriverCard]) -> None:
        """Open the cards and listen to them; raise NVMLError."""
        pynvml.nvmlInitWithFlags(self._flags)
        try:
            heard = pynvml.nvmlEventSetCreate()
            try:
                names = {_key(handle): card for card, handle in _registered(cards, heard)}
                if not names and self._flags == LEAST:
                    self._flags = USUAL
                else:
                    self._hear_all(heard, names, is_complete=len(names) == len(cards))
            finally:
                with suppress(pynvml.NVMLError):
                    pynvml.nvmlEventSetFree(heard)
        finally:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _hear_all(self, heard: Any, names: dict[int | None, str], *, is_complete: bool) -> None:
        """Hear until other cards are wanted; where some cannot be listened to, they are tried again after a while."""
        again_s = inf if is_complete else time.monotonic() + self._pause_s
        while not self._changed.is_set() and time.monotonic() < again_s:
            if names:
                self._hear(heard, names)
            else:
                self._changed.wait(self._pause_s)

    def _hear(self, heard: Any, names: dict[int | None, str]) -> None:
        try:
            event = pynvml.nvmlEventSetWait_v2(heard, round(WAIT_S * 1000))
        except pynvml.NVMLError_Timeout:
            return
        card = names.get(_key(event.device))
        if card is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
            self._told(card, int(event.eventData))


def _registered(cards: Sequence[DriverCard], heard: Any) -> list[tuple[str, Any]]:
    """Register each card that reports XIDs; one that does not, or cannot be opened, is left out."""
    found = []
    for card in cards:
        with suppress(pynvml.NVMLError):
            handle = handle_of(card)
            if pynvml.nvmlDeviceGetSupportedEventTypes(handle) & pynvml.nvmlEventTypeXidCriticalError:
                pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, heard)
                found.append((card.card, handle))
    return found


def _key(handle: Any) -> int | None:
    """Give what tells handles apart: the address that the library gave."""
    return ctypes.cast(handle, ctypes.c_void_p).value
