"""Watches for cards that are not as the generation was compiled for, and has a plan made: once for each such change.

Who watches may be sandboxed or gone a moment later, so the plan is made by a process of its own (`gpu replan`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kloros_infra.adapters.driver_files import seen_devices
from kloros_infra.adapters.lasting_process import own_words, run_as_unit, spawn
from kloros_infra.adapters.pci import PROCFS, SYSFS
from kloros_infra.adapters.run_files import RunFiles
from kloros_infra.cli.wiring import ManagerChoice, Target
from kloros_infra.ir.card_facts import DriverReading
from kloros_infra.ir.hardware_record import HardwareRecord
from kloros_infra.ir.routing import RoutedCard, RoutingTable
from kloros_infra.topology.hardware import CompiledCard, HardwareChange, hardware_changes, remembered

SETTLE_S = 5.0
"""How long a change must last: while a driver is loaded, or a slot is switched on, cards look like others."""
REPLAN_UNIT = "kloros-hardware.service"
LOG = "hardware.log"
MIB = 2**20


class _Memory(BaseModel):
    """The file in /run: what was seen last, against which cards, since when, and what was acted on, in words.

    `there` is what is seen of cards that are there now.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    compiled: tuple[CompiledCard, ...] = ()
    changes: tuple[HardwareChange, ...] = ()
    there: tuple[str, ...] = ()
    since_s: float = 0.0
    followed: tuple[str, ...] = ()

    @property
    def is_due(self) -> bool:
        """Say whether something is there that was not acted on, or something is over that was."""
        return not set(self.there) <= set(self.followed) <= set(words_of(self.changes))


class HardwareWatch:
    """Implements `agent.ports.Hardware`."""

    def __init__(
        self,
        where: Target,
        *,
        sysfs: Path = SYSFS,
        procfs: Path = PROCFS,
        settle_s: float = SETTLE_S,
        start: Callable[[], bool] | None = None,
    ) -> None:
        self._where = where
        self._sysfs = sysfs
        self._procfs = procfs
        self._settle_s = settle_s
        self._start = start or self._start_replan
        self._files = RunFiles(where.root)
        self._seen: _Memory | None = None

    def changes(self, table: RoutingTable, reading: DriverReading) -> tuple[str, ...]:
        """Say in words what differs, and what became of that."""
        compiled, before = compiled_cards(table), self._memory()
        known = before.changes if before.compiled == compiled else ()
        found = hardware_changes(compiled, seen_devices(self._sysfs, self._procfs), reading.cards)
        # The driver tells nothing of a card that is away or asleep, and old news while it does not answer.
        told = () if reading.is_stale else {card.card for card in reading.cards if card.total_bytes}
        changes = remembered(found, known, told)
        self._seen = _Memory(compiled=compiled, changes=changes, there=words_of(found))
        words, record = words_of(changes), read_record(self._where)
        return (*words, record.sentence) if record is not None and set(record.changes) <= set(words) else words

    def follow(self, changes: tuple[str, ...]) -> None:  # noqa: ARG002 - it is what `changes` has found last
        """Have a plan made once a change has lasted; what is over has its plan taken back."""
        if self._seen is None:
            return
        before, seen, now = self._memory(), self._seen, _now()
        is_same = (seen.changes, seen.there) == (before.changes, before.there)
        since_s = before.since_s if is_same else now
        memory = seen.model_copy(update={"since_s": since_s, "followed": before.followed})
        if memory.is_due and now >= since_s + self._settle_s and self._start():
            memory = memory.model_copy(update={"followed": seen.there})
        self._files.write(self._where.layout.hardware_memory, memory.model_dump_json() + "\n")

    def _memory(self) -> _Memory:
        try:
            return _Memory.model_validate_json(self._files.read(self._where.layout.hardware_memory) or "")
        except ValidationError:
            return _Memory()

    def _start_replan(self) -> bool:
        root = str(self._where.root)
        manager = self._where.manager
        words = own_words("gpu", "replan", "--root", root, "--manager", manager.value)
        if manager is ManagerChoice.SYSTEMD:
            return run_as_unit(words, "Plan for GPUs that have changed", unit=REPLAN_UNIT, waits=False)
        spawn((*words, "--sysfs", str(self._sysfs), "--procfs", str(self._procfs)), self._log)
        return True

    @property
    def _log(self) -> Path:
        return self._where.root / self._where.layout.state / LOG


def compiled_cards(table: RoutingTable) -> tuple[CompiledCard, ...]:
    """List the cards of this machine that a table was compiled for, those that no profile needs too."""
    cards = {card.name: card for profile in table.profiles for card in profile.cards if card.remote is None}
    return tuple(map(_compiled, (*cards.values(), *table.unused_cards)))


def _compiled(card: RoutedCard) -> CompiledCard:
    return CompiledCard(card.name, card.uuid, card.pci, card.vram_mib * MIB)


def words_of(changes: tuple[HardwareChange, ...]) -> tuple[str, ...]:
    """Give what differs in words alone."""
    return tuple(change.words for change in changes)


def read_record(where: Target) -> HardwareRecord | None:
    """Say what became of the last change; None where there was none, or where it may not be read."""
    text = RunFiles(where.root).read(where.layout.hardware_record)
    try:
        return HardwareRecord.model_validate_json(text or "")
    except ValidationError:
        return None


def _now() -> float:
    """Give seconds that nobody sets, the same for all processes of a boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
