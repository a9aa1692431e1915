"""How the declared cards are used, by whom, and whether they have failed, from NVIDIA's management library (NVML).

The library may wait in the kernel for a card that has failed, and such a wait cannot be ended: so a thread of its own
asks it, and whoever wants to know waits for that thread no longer than agreed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pynvml

from kloros_infra.adapters.nvml import cannot_ask
from kloros_infra.adapters.nvml_card import NO_CARD, DriverCard, read_card
from kloros_infra.adapters.nvml_thread import in_thread
from kloros_infra.adapters.pci import PROCFS, SYSFS, driver_facts
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.card_facts import CardReading, DeclaredCard, DriverReading, Fault

DEADLINE_S = 2.0
# Cards that are not ours must not be opened, and a machine without cards is no error. Which cards a driver finds that
# was told to attach none is not documented; where one of ours is missing, cards are attached as they are asked for.
LEAST = pynvml.NVML_INIT_FLAG_NO_GPUS | pynvml.NVML_INIT_FLAG_NO_ATTACH
USUAL = pynvml.NVML_INIT_FLAG_NO_GPUS


class NvmlFacts:
    """Asks NVML about declared cards, and no others; one caller at a time."""

    def __init__(
        self,
        *,
        deadline_s: float = DEADLINE_S,
        sysfs: Path = SYSFS,
        procfs: Path = PROCFS,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self._deadline_s = deadline_s
        self._sysfs = sysfs
        self._procfs = procfs
        self._epoch = epoch
        self._flags = LEAST
        self._pending: Future[DriverReading] | None = None
        self._last = DriverReading()
        self._first_seen: dict[tuple[str, str], float] = {}

    def read(self, cards: Sequence[DeclaredCard]) -> DriverReading:
        """Say how each card is used; where NVML does not answer in time, what it said last, which is stale."""
        until = time.monotonic() + self._deadline_s
        if self._pending is None or self._has_answer(self._pending, until):
            self._pending = in_thread(lambda: self._ask(tuple(cards)))
            if self._has_answer(self._pending, until):
                return self._last
        return self._stale()

    def _has_answer(self, asked: Future[DriverReading], until: float) -> bool:
        """Wait for an answer, and keep it; one that comes late is of an earlier question, which is asked anew."""
        wait((asked,), timeout=max(0.0, until - time.monotonic()))
        if not asked.done():
            return False
        self._pending = None
        self._last = asked.result()
        return True

    def _stale(self) -> DriverReading:
        return replace(self._last, is_stale=True, problems=(_no_answer(self._deadline_s),))

    def _ask(self, cards: tuple[DeclaredCard, ...]) -> DriverReading:
        places = {facts.get("GPU UUID"): address for address, facts in driver_facts(self._procfs).items()}
        known = [DriverCard(card.name, card.uuid, card.pci or places.get(card.uuid)) for card in cards]
        asleep = [card for card in known if self._sleeps(card)]
        awake = [card for card in known if card not in asleep]
        # Nobody uses a card that sleeps, and asking would wake it.
        readings = [CardReading(card.card, card.uuid, card.pci, used_bytes=0) for card in asleep]
        if not awake:
            return DriverReading(tuple(readings))
        found = self._with_library(awake)
        return replace(found, cards=tuple(sorted((*readings, *found.cards), key=lambda reading: reading.card)))

    def _with_library(self, cards: Sequence[DriverCard]) -> DriverReading:
        try:
            readings = self._read_all(cards)
            if self._flags == LEAST and any(one.obstacle == NO_CARD and self._is_bound(one) for one in readings):
                self._flags = USUAL
                readings = self._read_all(cards)
        except pynvml.NVMLError_LibraryNotFound:
            return DriverReading(trouble="there is no NVIDIA driver")
        except pynvml.NVMLError as error:
            return DriverReading(trouble=str(error), problems=(cannot_ask(error),))
        return DriverReading(tuple(self._dated(reading) for reading in readings))

    def _read_all(self, cards: Sequence[DriverCard]) -> list[CardReading]:
        pynvml.nvmlInitWithFlags(self._flags)
        try:
            return [read_card(card, self._procfs) for card in cards]
        finally:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _dated(self, reading: CardReading) -> CardReading:
        """Date a state that lasts from when it was first seen."""
        seen = {(reading.card, str(fault.kind)) for fault in reading.faults}
        for key in [key for key in self._first_seen if key[0] == reading.card and key not in seen]:
            del self._first_seen[key]
        return replace(reading, faults=tuple(self._since(reading.card, fault) for fault in reading.faults))

    def _since(self, card: str, fault: Fault) -> Fault:
        return replace(fault, since_epoch_s=self._first_seen.setdefault((card, str(fault.kind)), self._epoch()))

    def _sleeps(self, card: DriverCard) -> bool:
        """Say whether opening a card would wake it (Linux, Documentation/ABI/testing/sysfs-devices-power)."""
        if card.pci is None:
            return False
        try:
            status = self._device(card.pci).joinpath("power", "runtime_status").read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return False
        return status.strip() == "suspended"

    def _is_bound(self, reading: CardReading) -> bool:
        """Say whether NVIDIA's driver has a card."""
        return reading.pci is not None and self._device(reading.pci).joinpath("driver").resolve().name == "nvidia"

    def _device(self, address: str) -> Path:
        return self._sysfs / "bus" / "pci" / "devices" / address


def _no_answer(deadline_s: float) -> Diagnostic:
    return Diagnostic(
        code="KI905",
        summary="NVML does not answer in time",
        detail=f"The driver has not said within {deadline_s:g} s how the cards are used; what it said before counts.",
        hint="Look for Xid lines in `journalctl -k`: a card that has failed may need a reset or a reboot.",
        severity=Severity.WARNING,
    )
