"""Whom to start for the requests that wait, and what has to stop for it.

The most urgent and longest waiting goes first, and keeps the room that is made for it. What is busy is never stopped:
where others are in the way that have work, they go on for as long as the load would take (so that changing back and
forth costs at most as much as it serves), then get no more requests until the one that waits has had its turn.
What the active profile has left makes way first, and finishes what it has within its time to drain. As long as it can
serve those that wait itself it goes on, for as long as others would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import Effects, Local, Waiting
from kloros_infra.router.fleet import Fleet
from kloros_infra.router.instance import COMING, Happening, State, after
from kloros_infra.router.room import Holder, Room, plan_room

LONGEST_PATIENCE_S = 5.0
FORGIVEN_S = 10.0
"""So long after a load has failed it may turn out that others have left it no room."""
URGENT_RANK = 0
"""Whose requests wait for nobody's turn."""
STOPPABLE = frozenset({State.STARTING, State.LOADING, State.READY, State.SUSPECT})

Protected = Callable[[str, float], bool]
"""Whether allocations from before the router's start keep an instance from being stopped for another."""


class Demand(NamedTuple):
    """An instance whose model requests wait for; `since` and `rank` are those of the first in line."""

    rank: int
    since: float
    local: Local


class Starter:
    """Decides with the fleet's instances, the cards' capacities, and what others use of them."""

    def __init__(self, fleet: Fleet, agenda: Agenda, waiting: Waiting, protected: Protected) -> None:
        self._fleet = fleet
        self._agenda = agenda
        self._waiting = waiting
        self._protected = protected
        self.capacities: Mapping[str, int] = {}
        self.foreign: Mapping[str, int] = {}

    def settle(self, demands: Sequence[Demand], now: float, out: Effects) -> None:
        """Start what fits, stop what is in the way and may stop, and have the rest make way in time."""
        yielded = {local.name for local in self._fleet.locals.values() if local.is_yielding}
        for local in self._fleet.locals.values():
            local.is_yielding = False
        reserved: list[Holder] = []
        for demand in sorted(demands, key=lambda demand: (demand.rank, demand.since, demand.local.name)):
            if self._is_startable(demand.local, now):
                self._make_room(demand, reserved, now, out)
        for name in tuple(self._fleet.wanted):
            self._start_unasked(self._fleet.locals[name], reserved, now, out)
        for local in self._fleet.locals.values():
            if local.is_yielding != (local.name in yielded):
                local.reopen()
                self._fleet.changed[local.name] = local

    def forgive(self, now: float) -> None:
        """Have what has just failed to load be tried again, where others left it no room: that is not for good."""
        for local in self._fleet.locals.values():
            life = local.life
            if life.state is State.FAILED and now - life.since <= FORGIVEN_S and self._is_crowded(local):
                local.life = after(life, Happening.REDEFINED, now)
                local.stopped_for = StopCause.ROOM
                self._fleet.changed[local.name] = local
                self._fleet.roster.want_anyway(local)

    def _is_crowded(self, local: Local) -> bool:
        alone = plan_room(_holder(local), (), capacities=self.capacities, foreign=self.foreign, evictable=())
        return alone is Room.NEVER

    def _is_startable(self, local: Local, now: float) -> bool:
        """Say whether it is to be started now; after it has failed, or somebody stopped it, only after a pause."""
        is_wanted = local.is_active and local.bar is None and local.no_room is None
        if local.life.state is not State.STOPPED or not is_wanted:
            return False
        if now < local.restart_at:
            self._agenda.note(local.restart_at, Due.RESTART, local.name)
            return False
        return True

    def _make_room(self, demand: Demand, reserved: list[Holder], now: float, out: Effects) -> None:
        local = demand.local
        turn_at = demand.since + _patience_s(demand)

        def goes_on_until(other: Local) -> float:
            return turn_at if other.model_id == local.model_id else now

        left, others = self._left(now), self._idle(now)
        plan = self._plan(local, reserved, (left, left | others), self._at_work(left, now, goes_on_until))
        if plan is None:
            reserved.append(_holder(local))
            return
        if plan is Room.FITS:
            self._fleet.start(local, now, out)
        elif isinstance(plan, tuple):
            self._stop(plan, now, out)
            reserved.append(_holder(local))
        elif plan is Room.NEVER:
            self._refuse_room(local, "it does not fit on its cards beside what others use of them")
        else:
            self._take_turns(demand, reserved, now, out)

    def _take_turns(self, demand: Demand, reserved: list[Holder], now: float, out: Effects) -> None:
        """Have those in the way make way, once it is the other's turn."""
        local = demand.local
        unpinned = {other.name for other in self._holding() if not (other.upstream.is_pinned and other.is_active)}
        if not isinstance(self._room(local, (), unpinned), tuple):
            self._refuse_room(local, "the memory that it needs is held by pinned instances")
            return
        # Those that leave already may be enough.
        leaving = {other.name for other in self._holding() if other.life.state not in STOPPABLE}
        if isinstance(self._room(local, reserved, leaving), tuple):
            reserved.append(_holder(local))
            return
        victims = self._room(local, reserved, unpinned)
        if not isinstance(victims, tuple):
            return
        others = [self._fleet.locals[name] for name in victims]
        due_at = max([demand.since, *(other.life.since for other in others if other.is_open)]) + _patience_s(demand)
        if now < due_at:
            self._agenda.note(due_at, Due.ROOM, local.name)
            return
        for other in others:
            other.is_yielding = other.life.state is State.READY
        plan = self._room(local, reserved, self._left(now) | self._idle(now))
        if isinstance(plan, tuple):
            self._stop(plan, now, out)
        reserved.append(_holder(local))

    def _start_unasked(self, local: Local, reserved: Sequence[Holder], now: float, out: Effects) -> None:
        """Start what is to run anyway, where nothing has to stop for it but what the profile has left."""
        if local.life.state in (State.READY, State.FAILED) or local.life.state in COMING or not local.is_active:
            if local.life.state is not State.UNKNOWN:
                del self._fleet.wanted[local.name]
            return
        if not self._is_startable(local, now):
            return
        left = self._left(now)
        at_work = self._at_work(left, now, lambda other: other.left_at + other.upstream.drain_s)
        plan = self._plan(local, reserved, (left,), at_work)
        if plan is Room.FITS:
            self._fleet.start(local, now, out)
        elif isinstance(plan, tuple):
            self._stop(plan, now, out)

    def _plan(
        self, local: Local, reserved: Sequence[Holder], choices: Sequence[set[str]], at_work: Mapping[str, float]
    ) -> Room | tuple[str, ...] | None:
        """Say whether there is room once some of the first choice have stopped, or else of the next.

        What is at work goes on until then: None where there will be room after that.
        """
        for names in choices:
            plan = self._room(local, reserved, names - at_work.keys())
            if plan is not Room.BUSY:
                return plan
            if isinstance(self._room(local, reserved, names), tuple):
                self._agenda.note(min(at_work.values()), Due.ROOM, local.name)
                return None
        return Room.BUSY

    def _at_work(self, left: set[str], now: float, goes_on_until: Callable[[Local], float]) -> dict[str, float]:
        """Say until when those of the left go on that serve requests."""
        serving = (self._fleet.locals[name] for name in left)
        until = {local.name: goes_on_until(local) for local in serving if local.is_open and local.flights}
        return {name: at for name, at in until.items() if at > now}

    def _left(self, now: float) -> set[str]:
        """Name those that the active profile has left and that may be stopped for another."""
        return {local.name for local in self._holding() if not local.is_active and self._may_stop(local, now)}

    def _idle(self, now: float) -> set[str]:
        """Name those of the active profile that may be stopped for another."""
        return {local.name for local in self._holding() if local.is_active and self._may_stop(local, now)}

    def _room(
        self, local: Local, reserved: Sequence[Holder], evictable: set[str] | tuple[()]
    ) -> Room | tuple[str, ...]:
        holders = [*map(_holder, self._holding()), *reserved]
        return plan_room(_holder(local), holders, capacities=self.capacities, foreign=self.foreign, evictable=evictable)

    def _holding(self) -> list[Local]:
        return [local for local in self._fleet.locals.values() if local.life.is_holding]

    def _may_stop(self, local: Local, now: float) -> bool:
        """Say whether it may be stopped for another: nobody uses it, waits for it, or has pinned it."""
        if local.life.state not in STOPPABLE or now < local.stop_at:
            return False
        if not local.is_active:
            return True
        if local.flights or local.upstream.is_pinned:
            return False
        is_wanted = self._waiting(local.model_id) > 0 and not local.is_yielding
        return not is_wanted and not self._protected(local.name, now)

    def _stop(self, names: Sequence[str], now: float, out: Effects) -> None:
        for name in names:
            local = self._fleet.locals[name]
            local.stopped_for = StopCause.ROOM
            self._fleet.leave(local, now, out)

    def _refuse_room(self, local: Local, why: str) -> None:
        local.no_room = why
        self._fleet.changed[local.name] = local


def _patience_s(demand: Demand) -> float:
    """Say for how long those in the way may go on."""
    return 0.0 if demand.rank == URGENT_RANK else min(demand.local.upstream.load_s, LONGEST_PATIENCE_S)


def _holder(local: Local) -> Holder:
    turns = {f"model {local.model_id}"} if local.group is None else {f"model {local.model_id}", f"group {local.group}"}
    upstream = local.upstream
    return Holder(local.name, upstream.shares, frozenset(turns), local.idle_since, upstream.beside)
