"""Join adapters to what the agent needs of the world, as `cli.wiring` does for the other commands."""
# ruff: noqa: PLC0415 - adapters are imported where they are needed, so that nothing else pays for them

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kloros_infra.adapters.pci import PROCFS, SYSFS
from kloros_infra.adapters.reconcile_lock import WAIT_S, reconcile_lock
from kloros_infra.adapters.run_files import RunFiles
from kloros_infra.agent.ports import Driver, Outside, Presence, Processes
from kloros_infra.agent.reconcile import Outcome, considered, reconcile
from kloros_infra.cli.wiring import ManagerChoice, Target
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError
from kloros_infra.ir.card_facts import DeclaredCard, DriverReading, Now
from kloros_infra.ir.names import profile_target
from kloros_infra.ir.routing import RoutingTable

if TYPE_CHECKING:
    from kloros_infra.adapters.nvml_facts import NvmlFacts
    from kloros_infra.adapters.wakes import FolderWakes
    from kloros_infra.agent.watch import Watch
    from kloros_infra.ir.cards_report import CardsReport

log = logging.getLogger(__name__)

ROUTER_ANSWERS_S = 1.0
"""A reconcile does not wait longer for a router that hangs: that one looks at its files by itself."""
AGENT_DRIVER_S = 1.0
"""How long the resident agent waits for the driver: it asks again soon."""


@dataclass(frozen=True, slots=True)
class GpuPlaces:
    """Where the facts of cards are found: an installation, and the kernel's two trees."""

    where: Target
    sysfs: Path = SYSFS
    procfs: Path = PROCFS
    lock_wait_s: float = WAIT_S
    """How long another reconcile on the installation is waited for."""


def reconcile_here(places: GpuPlaces) -> Outcome:
    """Reconcile once in this process; raise LockHeldError, and OSError where nothing can be written."""
    return reconcile(outside_of(places))


def consider_here(places: GpuPlaces, table: RoutingTable) -> tuple[CardsReport, bool]:
    """Decide without writing anything; say as well whether that goes on from what a reconcile of this boot left."""
    return considered(outside_of(places), table)


def raise_flag(where: Target) -> None:
    """Have whoever follows the cards look at them; raise OSError."""
    RunFiles(where.root).touch(where.layout.dirty_file)


def outside_of(
    places: GpuPlaces,
    *,
    table: InstalledTable | None = None,
    presence: Presence | None = None,
    driver: Driver | None = None,
) -> Outside:
    """Give a reconcile the real world below a root."""
    from kloros_infra.adapters.card_presence import CardPresence
    from kloros_infra.adapters.local_time import local_time
    from kloros_infra.adapters.lockout_files import lockout_files
    from kloros_infra.adapters.this_boot import boot_id
    from kloros_infra.cli.hardware_watch import HardwareWatch

    where = places.where
    return Outside(
        table=table or InstalledTable(where.root / where.layout.routing),
        files=RunFiles(where.root),
        lockouts=partial(lockout_files, where.root),
        presence=presence or CardPresence(places.sysfs, places.procfs),
        driver=driver or DriverOnDemand(places),
        processes=_processes(where),
        followers=RouterAndTargets(where),
        lock=partial(reconcile_lock, where.root, wait_s=places.lock_wait_s),
        now=_now,
        local_time=local_time,
        boot_id=boot_id(),
        hardware=HardwareWatch(where, sysfs=places.sysfs, procfs=places.procfs),
        layout=where.layout,
    )


def watch_of(places: GpuPlaces) -> Watch:
    """Give the resident agent the real world below a root."""
    from kloros_infra.adapters.card_presence import CardPresence, WatchedPresence
    from kloros_infra.adapters.nvml_events import NvmlEvents
    from kloros_infra.agent.watch import Watch

    wakes = _wakes(places.where)
    presence = WatchedPresence(CardPresence(places.sysfs, places.procfs), wakes.nudge)
    outside = outside_of(places, presence=presence, driver=DriverOnDemand(places, deadline_s=AGENT_DRIVER_S))
    told = partial(_note_event, outside, wakes.nudge)
    return Watch(outside, wakes, NvmlEvents(told, sysfs=places.sysfs, procfs=places.procfs))


class InstalledTable:
    """The routing table of an installation, read anew when it is replaced."""

    def __init__(self, place: Path) -> None:
        from kloros_infra.adapters.watched_file import WatchedFile

        self._file = WatchedFile(place)
        self._stamp: tuple[int, int, int] | None = None
        self._table: RoutingTable | Diagnostic | None = None

    def __call__(self) -> RoutingTable | Diagnostic | None:
        """Give the table, a problem for one that cannot be read, None where there is none."""
        from kloros_infra.daemon.files import read_table

        stamp = self._file.stamp()
        if stamp is None:
            return None
        if stamp != self._stamp:
            self._table, self._stamp = read_table(self._file), stamp
        return self._table


class DriverOnDemand:
    """Implements `agent.ports.Driver`; NVML's bindings are imported when a card is there to ask about."""

    def __init__(self, places: GpuPlaces, *, deadline_s: float | None = None) -> None:
        self._places = places
        self._deadline_s = deadline_s
        self._facts: NvmlFacts | None = None

    def read(self, cards: Sequence[DeclaredCard]) -> DriverReading:
        if self._facts is None:
            from kloros_infra.adapters.nvml_facts import DEADLINE_S, NvmlFacts

            deadline_s = self._deadline_s or DEADLINE_S
            self._facts = NvmlFacts(deadline_s=deadline_s, sysfs=self._places.sysfs, procfs=self._places.procfs)
        return self._facts.read(cards)


class RouterAndTargets:
    """Implements `agent.ports.Followers`: the router of a root, and systemd's targets on the machine's own."""

    def __init__(self, where: Target) -> None:
        self._where = where

    def tell_router(self) -> None:
        """Have the router look at its files; one that is not there looks when it starts."""
        from kloros_infra.adapters.control_client import ControlClient

        try:
            ControlClient(self._where.root / self._where.layout.control_socket, timeout_s=ROUTER_ANSWERS_S).follow()
        except (KlorosError, OSError) as error:
            log.debug("the router was not told: %s", error)

    def start_target(self, profile: str) -> bool:
        """Start a profile's target where systemd runs the units; a target that is not there is nobody's trouble."""
        from kloros_infra.adapters.systemd import Systemd, is_available
        from kloros_infra.errors import StepFailedError

        if self._where.manager is not ManagerChoice.SYSTEMD or not is_available():
            return True
        try:
            Systemd().enqueue_start(profile_target(profile))
        except StepFailedError as error:
            log.debug("the target of %s does not start: %s", profile, error)
        except KlorosError:
            return False
        return True


def _processes(where: Target) -> Processes:
    from kloros_infra.adapters.systemd import is_available
    from kloros_infra.adapters.unit_processes import NoProcesses, SupervisedProcesses, SystemdProcesses

    if where.manager is ManagerChoice.SYSTEMD:
        return SystemdProcesses() if is_available() else NoProcesses()
    return SupervisedProcesses(where.root, _family)


def _family(pid: int) -> Collection[int]:
    from kloros_infra.adapters.nvml_memory import NvmlCards

    return NvmlCards().family(pid)


def _now() -> Now:
    return Now(time.monotonic(), time.time())


def _wakes(where: Target) -> FolderWakes:
    """Follow what may change a decision: the flag, what people want, and the generation."""
    from kloros_infra.adapters.wakes import FolderWakes

    root, layout = where.root, where.layout
    wishes = (root / layout.lockout_file, root / layout.lockout_folder, root / layout.pin_file)
    current = root / layout.current
    followed = {
        wishes[0].parent: tuple(one.name for one in wishes),
        wishes[1]: (),
        current.parent: (current.name,),
    }
    return FolderWakes(root / layout.dirty_file, followed)


def _note_event(outside: Outside, nudge: Callable[[], None], card: str, xid: int | None) -> None:
    """Write down what the driver reported of a card, and have it looked at."""
    from kloros_infra.agent.records import RecordedEvent, dated_after, events_text, read_events

    if xid is not None:
        log.warning("the driver reports XID %d of %s", xid, card)
        name = outside.layout.faults_file
        before = read_events(outside.files.read(name), outside.boot_id)
        new = dated_after(RecordedEvent(card=card, xid=xid, epoch_s=outside.now().epoch_s), before)
        try:
            outside.files.write(name, events_text((*before, new), outside.boot_id))
        except OSError as error:
            log.warning("that cannot be written down: %s", error)
    nudge()
