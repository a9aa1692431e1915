"""What the agent needs of the world; `cli.gpu_wiring` joins real things to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.card_facts import DeclaredCard, DriverReading, Now, PolicyFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutedCard, RoutingTable


class Files(Protocol):
    """Small text files below the root, by their paths in `Layout` (adapters.run_files.RunFiles)."""

    def read(self, name: str) -> str | None:
        """Read a file; None where there is none that could be read."""
        ...

    def write(self, name: str, text: str) -> None:
        """Replace a file as a whole, unless it says that already; raise OSError."""
        ...

    def remove(self, name: str) -> bool:
        """Take a file away; say whether it was there. Raise OSError."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether a file is there."""
        ...


class Presence(Protocol):
    """Says which cards can be used (adapters.card_presence)."""

    def present(self, cards: Sequence[RoutedCard]) -> frozenset[str]:
        """Name the cards that are there."""
        ...


class Driver(Protocol):
    """NVIDIA's driver (adapters.nvml_facts.NvmlFacts)."""

    def read(self, cards: Sequence[DeclaredCard]) -> DriverReading:
        """Say how cards are used; with what it said last where it does not answer in time."""
        ...


class Processes(Protocol):
    """Our units' processes (adapters.unit_processes)."""

    def families(self, units: Collection[str]) -> Mapping[str, Collection[int]] | None:
        """Give the processes of those units that run; None where nobody can be asked."""
        ...


class Followers(Protocol):
    """Who follows a change; each call returns soon, and whoever is not there reads the files later."""

    def tell_router(self) -> None:
        """Have the router read its files now."""
        ...

    def start_target(self, profile: str) -> bool:
        """Have a profile's target started, without waiting; False where that is to be tried again."""
        ...


class Hardware(Protocol):
    """Compares the cards that are there with those that the generation was compiled for."""

    def changes(self, table: RoutingTable, reading: DriverReading) -> tuple[str, ...]:
        """Say in words what differs; asked while a reconcile holds its lock, so it waits for nothing."""
        ...

    def follow(self, changes: tuple[str, ...]) -> None:
        """Act on what differs, once for each distinct change; called after each reconcile, and waits for nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything that a reconcile touches.

    `table` gives None where nothing is installed, and a problem for a table that cannot be read. `lock` is held by one
    reconcile at a time. `lockouts` reads the files that are called after these cards first. `local_time` gives the
    instant that a time without a zone means on this machine.
    """

    table: Callable[[], RoutingTable | Diagnostic | None]
    files: Files
    lockouts: Callable[[Collection[str]], tuple[PolicyFile, ...]]
    presence: Presence
    driver: Driver
    processes: Processes
    followers: Followers
    lock: Callable[[], AbstractContextManager[None]]
    now: Callable[[], Now]
    local_time: Callable[[datetime], datetime]
    boot_id: str
    hardware: Hardware
    layout: Layout


class Wakes(Protocol):
    """Waits until something happens to what the agent follows (adapters.wakes)."""

    def wait(self, timeout_s: float) -> bool:
        """Return at once when something has happened since the last call; False when the time is over."""
        ...

    def nudge(self) -> None:
        """End the wait, or the next one; from any thread, and from a signal's handler."""
        ...

    def settle(self, time_s: float) -> None:
        """Let a time pass; what happens meanwhile ends the next wait."""
        ...


class CardEvents(Protocol):
    """Listens to what the driver reports of cards (adapters.nvml_events)."""

    def follow(self, cards: Sequence[DeclaredCard]) -> None:
        """Listen to these cards from now on, and hold no others open."""
        ...
