"""A virtual clock with a core on it: what is told and done is in its order, and nothing of it is random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from kloros_infra.ir.routing import Upstream
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Allocated, AllocationChange, Effect, Poll, Send
from kloros_infra.router.events import Outcome, TableReplaced, Ticked
from kloros_infra.router.instance import State
from tests.unit.router.simulated_steps import Ask, Scenario

MOST_TICKS_AT_ONCE = 20


class BrokenPromiseError(AssertionError):
    """Something that must always hold did not."""


@dataclass(slots=True)
class Unit:
    """A unit and its process; `holds` is what it has of the cards, from the order to start until it is gone."""

    upstream: Upstream
    phase: str = "down"
    is_hung: bool = False
    is_spoilt: bool = False
    pid: int = 0
    life: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    failing_polls: int = 0
    drain_from: float | None = None
    is_orderly: bool = True
    is_stop_asked: bool = False
    is_clinging: bool = False
    is_known_to_leave: bool = False


@dataclass(slots=True)
class Flight:
    """An attempt on its way."""

    send: Send
    sent_at: float
    has_begun: bool = False
    is_over: bool = False


@dataclass(slots=True)
class Asker:
    """A request as whoever asked sees it."""

    ask: Ask
    deadline_at: float
    flight: Flight | None = None
    attempts: int = 0
    has_begun: bool = False
    end: str | None = None


class World(ABC):
    """What there is: a core, units, hosts, and those who ask."""

    def __init__(self, scenario: Scenario, kind: type[Core] = Core) -> None:
        self.now = 0.0
        self.scenario = scenario
        self.table = scenario.tables[0]
        self.profile = self.table.profiles[0].name
        self.units: dict[str, Unit] = {}
        self.askers: dict[str, Asker] = {}
        self.hosts_down: set[str] = set()
        self.hosts_off: set[str] = set()
        self.in_flight: dict[str, set[str]] = {}
        self.foreign: dict[str, int] = {}
        self.cards: dict[str, str] = {}
        self.lent: set[str] = {lease.allocation_id for lease in scenario.leases}
        self.told_of = set(self.lent)
        self.sent: dict[str, float] = {}
        self.allocations = dict.fromkeys(AllocationChange, 0)
        self.streaks: dict[str, int] = {}
        self.blocked_until: dict[str, float] = {}
        self.log: list[tuple[float, Any, bool]] = []
        self._pids = 0
        self._order = 0
        self._events: list[tuple[float, int, Any]] = []
        self._doubted: dict[str, bool] = {}
        self._learn_units()
        for name in scenario.running:
            if name in self.units:
                self._run(self.units[name], "up")
        self.core = kind(self.table, profile=self.profile, now=0.0, seed=scenario.seed, leases=scenario.leases)

    def _until(self, end: float) -> None:
        ticks = 0
        while True:
            due = self.core.next_at()
            event_at = self._events[0][0] if self._events else None
            if event_at is None and due is None:
                break
            if event_at is None or (due is not None and due <= event_at):
                assert due is not None
                if due > end:
                    break
                ticks = ticks + 1 if due <= self.now else 0
                self._check(ticks < MOST_TICKS_AT_ONCE, "the core wants to be told the time again and again")
                self.now = max(self.now, due)
                self.tell(Ticked())
            else:
                if event_at > end:
                    break
                self.now = max(self.now, event_at)
                heappop(self._events)[2]()
                ticks = 0
        self.now = end

    def _is_open(self) -> bool:
        return any(asker.end is None for asker in self.askers.values())

    def tell(self, event: Any) -> None:
        """Tell the core something, and do what it wants."""
        self.log.append((self.now, event, False))
        for effect in self.core.on(event, self.now):
            self.log.append((self.now, effect, True))
            self._do(effect)
        self._check_waiting()
        self._check_standstill()

    def _check_standstill(self) -> None:
        """Nobody waits for an instance that nothing keeps from starting, whatever its model still does elsewhere."""
        fleet, lines = self.core._fleet, [name for name, line in self.core._traffic.lines.items() if line]
        local = fleet.serving(lines[0]) if len(lines) == 1 and not fleet.wanted and not fleet.asked_for else None
        if local is None or local.life.state is not State.STOPPED or local.upstream.beside == ():
            return
        is_let = local.bar is None and local.no_room is None and self.now >= local.restart_at
        cards = {share.card for share in local.upstream.shares}
        others = [one for one in fleet.locals.values() if one.life.is_holding and one.name not in local.upstream.beside]
        rivals = [one for one in others if one.model_id == local.model_id or one.group is not None]
        is_free = all(cards.isdisjoint(share.card for share in one.upstream.shares) for one in others)
        self._check(not (is_let and is_free and not rivals), f"{lines[0]} waits, and nothing is in its way")

    def _check_waiting(self) -> None:
        """Nobody waits for what has a place for him."""
        traffic = self.core._traffic
        for model_id, line in traffic.lines.items():
            if line:
                free = {n for n, s in self.core._stations.items() if s.model_id == model_id and s.takes(self.now)}
                requests = [traffic.requests[id] for id in line]
                # Where a latency is asked for, waiting for a fast one may be better than a place with a slow one.
                patient = [request for request in requests if request.found.max_latency_s is None]
                waits = next((r.asked.id for r in patient if not (free - r.tried).isdisjoint(r.ways)), None)
                self._check(waits is None, f"{waits} waits, and {sorted(free)} would take it")

    @abstractmethod
    def _do(self, effect: Effect) -> None:
        """Do what the core wants."""

    @abstractmethod
    def _end(self, flight: Flight, outcome: Outcome) -> None:
        """End an attempt."""

    @abstractmethod
    def _learn_units(self) -> None:
        """Know the units of the table."""

    @abstractmethod
    def _run(self, unit: Unit, phase: str) -> None:
        """Have a unit's process run."""

    def _at(self, at: float, act: Any) -> None:
        self._order += 1
        heappush(self._events, (at, self._order, act))

    def _after(self, pause_s: float, act: Any) -> None:
        self._at(self.now + pause_s, act)

    def told(self) -> str:
        """Write what was told and done, line by line."""
        return "\n".join(f"{at:9.4f} {'<  ' if is_effect else '>'} {_brief(what)}" for at, what, is_effect in self.log)

    def _check(self, holds: bool, words: str) -> None:
        if not holds:
            raise BrokenPromiseError(f"at {self.now:.4f} s: {words}")


def _brief(effect: Any) -> str:
    match effect:
        case Send(id, target, _, _, attempt, reason):
            return f"Send({id} to {target.name}, attempt {attempt}: {reason})"
        case Allocated(change, allocation_id, request_id):
            return f"Allocated({change.value} {allocation_id} {request_id})"
        case Poll(target):
            return f"Poll({target.name})"
        case TableReplaced():
            return "TableReplaced"
        case _:
            return str(effect)
