"""The world of a reconcile: real files below a folder, and cards, a driver and units as a test says."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kloros_infra.adapters.local_time import local_time
from kloros_infra.adapters.lockout_files import lockout_files
from kloros_infra.adapters.run_files import RunFiles
from kloros_infra.agent.memory import Memory, read_memory
from kloros_infra.agent.ports import Outside
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.card_facts import CardReading, DeclaredCard, DriverReading, Fault, FaultKind, Holder, Now
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutedCard, RoutedModel, RoutedProfile, RoutedShare, RoutingTable
from tests.factories import a_routed_model, a_routing_table, an_upstream

LAYOUT = Layout()
GIB = 2**30
RTX_5080 = RoutedCard(name="rtx5080", uuid=None, pci="0000:01:00.0", vram_mib=16212)
RTX_3060 = RoutedCard(name="rtx3060", uuid=None, pci="0000:04:00.0", vram_mib=11444)
UNIT = "llama@big-max.service"


class KilledError(Exception):
    """Stands for a SIGKILL in the middle of a write."""


def a_table(*, regain_after_s: float = 30.0, locked: Collection[str] = ()) -> RoutingTable:
    """Build a table: `max` needs both cards, `mid` the smaller one, `cpu_only` none; the big model takes the 5080."""
    upstream = an_upstream("big-max").model_copy(update={"shares": (RoutedShare(card="rtx5080", mib=8000),)})
    models: tuple[RoutedModel, ...] = (a_routed_model("big", upstream), a_routed_model("small"))
    cards = [card.model_copy(update={"is_locked": card.name in locked}) for card in (RTX_5080, RTX_3060)]
    profiles = (
        RoutedProfile(name="max", cards=tuple(cards), regain_after_s=regain_after_s),
        RoutedProfile(name="mid", cards=(cards[1],), regain_after_s=regain_after_s),
        RoutedProfile(name="cpu_only", cards=()),
    )
    return a_routing_table(*models).model_copy(update={"profiles": profiles})


class World:
    """Everything that a reconcile looks at and does; `done` lists what it did, in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.table: RoutingTable | Diagnostic | None = a_table()
        self.there = {"rtx5080", "rtx3060"}
        self.used_bytes = {"rtx5080": 0, "rtx3060": 0}
        self.holders: dict[str, tuple[Holder, ...]] = {}
        self.faults: dict[str, FaultKind] = {}
        self.trouble = ""
        self.is_stale = False
        self.families: Mapping[str, Collection[int]] | None = {}
        self.now = Now(1000.0, 1_700_000_000.0)
        self.boot_id = "boot-1"
        self.done: list[str] = []
        self.writes_left: int | None = None
        """How many writes are made before the process is killed; None where it is not."""
        self.flags_left = 0
        """How often the flag is raised again while cards are looked at."""
        self.holders_told: list[int] = []
        """How many holders the report named whenever the router was told."""
        self.is_target_started = True
        self.hardware_changes: tuple[str, ...] = ()
        self._files = RunFiles(root)

    @property
    def outside(self) -> Outside:
        return Outside(
            table=lambda: self.table,
            files=self,
            lockouts=partial(lockout_files, self.root),
            presence=self,
            driver=_Driver(self),
            processes=_Processes(self),
            followers=self,
            lock=self._lock,
            now=lambda: self.now,
            local_time=local_time,
            boot_id=self.boot_id,
            hardware=_Hardware(self),
            layout=LAYOUT,
        )

    def later(self, time_s: float) -> None:
        """Let a time pass on both clocks, of which the wall clock is slewed a little."""
        self.now = Now(self.now.monotonic_s + time_s, self.now.epoch_s + time_s + 0.01)

    def say(self, path: str, text: str) -> None:
        """Write a file that people write."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    @property
    def profile(self) -> str:
        return (self.root / LAYOUT.profile_file).read_text().strip()

    @property
    def report(self) -> CardsReport:
        return CardsReport.model_validate_json((self.root / LAYOUT.cards_file).read_text())

    @property
    def memory(self) -> Memory:
        return read_memory((self.root / LAYOUT.topology_file).read_text(), self.boot_id)

    def done_since(self) -> list[str]:
        """Give what was done since the last time."""
        found, self.done = self.done, []
        return found

    def faults_of(self, card: str) -> tuple[Fault, ...]:
        """Give the state in which a card answers nothing."""
        kind = self.faults.get(card)
        return () if kind is None else (Fault(kind, 1_700_000_000.5, is_lasting=True),)

    # agent.ports.Files

    def read(self, name: str) -> str | None:
        return self._files.read(name)

    def write(self, name: str, text: str) -> None:
        if self._files.read(name) == text:
            return
        if self.writes_left is not None:
            if not self.writes_left:
                raise KilledError
            self.writes_left -= 1
        self._files.write(name, text)
        self.done.append(f"wrote {name.rpartition('/')[2]}")

    def remove(self, name: str) -> bool:
        was_there = self._files.remove(name)
        if was_there:
            self.done.append(f"removed {name.rpartition('/')[2]}")
        return was_there

    def exists(self, name: str) -> bool:
        return self._files.exists(name)

    # agent.ports.Presence

    def present(self, cards: Sequence[RoutedCard]) -> frozenset[str]:
        if self.flags_left:
            self.flags_left -= 1
            self._files.touch(LAYOUT.dirty_file)
        return frozenset(card.name for card in cards if card.name in self.there)

    # agent.ports.Followers

    def tell_router(self) -> None:
        self.done.append("told the router")
        self.holders_told.append(sum(len(card.holders) for card in self.report.cards))

    def start_target(self, profile: str) -> bool:
        self.done.append(f"started {profile}")
        return self.is_target_started

    @contextmanager
    def _lock(self) -> Iterator[None]:
        yield
        self.done.append("unlocked")


class _Driver:
    def __init__(self, world: World) -> None:
        self._world = world

    def read(self, cards: Sequence[DeclaredCard]) -> DriverReading:
        world = self._world
        world.done.append(f"asked {' '.join(card.name for card in cards)}")
        if world.trouble:
            return DriverReading(trouble=world.trouble)
        return DriverReading(
            tuple(
                CardReading(
                    card.name,
                    f"GPU-{card.name}",
                    card.pci,
                    16 * GIB,
                    None if card.name in world.faults else world.used_bytes[card.name],
                    world.holders.get(card.name, ()),
                    world.faults_of(card.name),
                )
                for card in cards
            ),
            is_stale=world.is_stale,
        )


class _Processes:
    def __init__(self, world: World) -> None:
        self._world = world

    def families(self, units: Collection[str]) -> Mapping[str, Collection[int]] | None:
        known = self._world.families
        return None if known is None else {unit: pids for unit, pids in known.items() if unit in units}


class _Hardware:
    def __init__(self, world: World) -> None:
        self._world = world

    def changes(self, table: RoutingTable, reading: DriverReading) -> tuple[str, ...]:
        return self._world.hardware_changes

    def follow(self, changes: tuple[str, ...]) -> None:
        if changes:
            self._world.done.append(f"followed {', '.join(changes)}")
