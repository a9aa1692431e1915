"""A card of this machine that is given up, with our units on it: joins service manager, router, driver and /proc."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from kloros_infra.adapters.card_holders import DEV, CardHolders, OpenBy, Seen
from kloros_infra.adapters.control_client import NoRouterError
from kloros_infra.adapters.killed import kill
from kloros_infra.adapters.nvml_facts import NvmlFacts
from kloros_infra.adapters.persistence import DAEMON, end_persistence
from kloros_infra.cli.gpu_release import CardHolder, Holders
from kloros_infra.cli.gpu_site import GpuSite
from kloros_infra.cli.gpu_wiring import outside_of
from kloros_infra.cli.runtimes import control_of
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError
from kloros_infra.executor.ports import ServiceManager
from kloros_infra.ir.card_facts import CardReading, DeclaredCard, DriverReading, Holder
from kloros_infra.ir.names import AGENT_UNIT, ROUTER_UNIT
from kloros_infra.ir.observed import ActiveState

DOWN = (ActiveState.INACTIVE, ActiveState.FAILED)
ROUTER_ANSWERS_S = 3.0
ROUTER_LOOKS_S = 0.5


class RealCard:
    """Implements `gpu_release.Card`; without a service manager that can be asked nothing of ours is known to run."""

    router_answers_s = ROUTER_ANSWERS_S

    def __init__(self, site: GpuSite, card: DeclaredCard, manager: ServiceManager | None, *, dev: Path = DEV) -> None:
        self.name = card.name
        self._site, self._card, self._manager = site, card, manager
        self._units = site.units_on(card.name)
        self._open_by = CardHolders(dev=dev, proc=site.places.procfs)
        self._nvml = NvmlFacts(sysfs=site.places.sysfs, procfs=site.places.procfs)
        self._processes = outside_of(site.places).processes
        self._has_asked_persistence = False
        self.problems: list[Diagnostic] = []
        """What stopping units met."""

    def is_routed(self) -> bool:
        """Say whether a router runs, and have it know that the card is locked out.

        One that does not answer in time may be in the middle of something: it is there.
        """
        try:
            control_of(self._site.where, timeout_s=self.router_answers_s).follow()
        except NoRouterError:
            return False
        except KlorosError:
            # It takes no orders of this user, or does not come to them.
            time.sleep(ROUTER_LOOKS_S)  # it looks at its files by itself after so long, and nobody is told that it did
        return True

    def running(self) -> Collection[str]:
        """Name our units on the card that are not down."""
        states = self._manager.states(self._units) if self._manager else {}
        return {unit for unit, state in states.items() if state.active not in DOWN}

    def order_stop(self, units: Collection[str]) -> None:
        """Have units stopped, all at once; a job of the service manager lasts until a unit has ended."""
        for unit in sorted(units):
            threading.Thread(target=self._stop, args=(unit,), name=unit, daemon=True).start()

    def kill(self, units: Collection[str]) -> None:
        """End the main processes of units."""
        states = self._manager.states(units) if self._manager else {}
        kill(state.main_pid for state in states.values() if state.main_pid > 0)

    def holders(self) -> Holders:
        """Ask the driver who has memory of the card, and /proc who has it open."""
        device = self._open_by.device(self._card)
        seen = Seen() if device is None else self._open_by.of(device)
        if self._persists(seen.holders) and device is not None:
            seen = self._open_by.of(device)
        reading = self._nvml.read((self._card,))
        told = next(iter(reading.cards), CardReading(self._card.name))
        by_pid = {holder.pid: holder for holder in self._merged(seen.holders, told.processes)}
        by_pid.pop(os.getpid(), None)
        unknown = "" if device is None and not told.processes else _unknown(seen, told, reading)
        return Holders(tuple(by_pid[pid] for pid in sorted(by_pid)), unknown)

    def _persists(self, holders: Collection[OpenBy]) -> bool:
        """Have the daemon let go that keeps a driver loaded for nobody; say whether it was asked to, which is once."""
        if self._has_asked_persistence or self._card.pci is None or all(one.name != DAEMON for one in holders):
            return False
        self._has_asked_persistence = True
        return end_persistence(self._card.pci)

    def _merged(self, opened: Collection[OpenBy], holding: Collection[Holder]) -> Iterator[CardHolder]:
        """Put together what both say; a process of ours bears its unit's name."""
        units, users = self._ours(), {one.pid: one for one in opened}
        memory = {one.pid: one for one in holding}
        for pid in users.keys() | memory.keys():
            user, holder = users.get(pid), memory.get(pid)
            name = user.name if user else holder.name if holder else ""
            held_bytes = holder.held_bytes if holder else None
            yield CardHolder(pid, name, user.user if user else "", held_bytes, units.get(pid, ""))

    def _ours(self) -> Mapping[int, str]:
        """Say which unit of ours each process belongs to."""
        families = self._processes.families(self._site.units) or {}
        states = self._manager.states((AGENT_UNIT, ROUTER_UNIT)) if self._manager else {}
        lookers = {state.main_pid: unit for unit, state in states.items() if state.main_pid > 0}
        return {**lookers, **{pid: unit for unit, pids in families.items() for pid in pids}}

    def _stop(self, unit: str) -> None:
        try:
            if self._manager:
                self._manager.stop(unit)
        except KlorosError as error:
            self.problems += error.problems


def _unknown(seen: Seen, told: CardReading, reading: DriverReading) -> str:
    """Say why it is not certain who uses a card that the driver has: /proc alone would do, or the driver alone."""
    if seen.is_complete:
        return ""
    silence = "it does not answer in time" if reading.is_stale else reading.trouble or told.obstacle
    return f"processes of other users are hidden from this one, and of the driver: {silence}" if silence else ""
