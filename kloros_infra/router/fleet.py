"""The instances of this machine: what became of each, whom to poll, to drain, to restart, to stop for idleness.

Which of them is to be started, and what has to stop for it, is `starting`'s to say.
"""

from __future__ import annotations

from kloros_infra.ir.announcements import News
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import CLOSED, Effects, Local, Waiting
from kloros_infra.router.cards import Cards
from kloros_infra.router.effects import Announce, RestartUnit, StartUnit, StopUnit
from kloros_infra.router.events import UnitFailed, UnitSeen, Verdict
from kloros_infra.router.idleness import Idleness, Protected
from kloros_infra.router.instance import Happening, State, after, is_unhealthy, on_poll
from kloros_infra.router.roster import Roster
from kloros_infra.router.watch import Watch

RUNNING = (State.STARTING, State.LOADING, State.READY, State.SUSPECT)
ELSEWHERE_PAUSE_S = 2.0
"""What somebody else has stopped is not started at once, as whoever did so may be about to start it himself."""


class Fleet:
    """Owns the instances by name; `changed` are those whose state has changed since someone looked."""

    def __init__(self, agenda: Agenda, waiting: Waiting, protected: Protected) -> None:
        self._agenda = agenda
        self._watch = Watch(agenda)
        self._idleness = Idleness(agenda, waiting, protected)
        self.roster = roster = Roster(agenda, self._watch, self._idleness)
        self.locals = roster.locals
        self.wanted = roster.wanted
        self.asked_for = roster.asked_for
        self.serving = roster.serving
        self.changed: dict[str, Local] = {}
        self.ended: list[str] = []
        """Instances whose process has ended since someone looked: what was lent of them, and their caches, are gone."""

    def replace(self, table: RoutingTable, profile: str, now: float, out: Effects) -> None:
        """Serve by a table and a profile: what is as it was stays, what is new is polled."""
        self.roster.replace(table, profile, now)
        self._settle_all(now, out)

    def use_cards(self, cards: Cards, now: float, out: Effects) -> None:
        """Have nothing run on cards that are closed, and nothing stay that does not serve on those others want."""
        self.roster.use_cards(cards, now)
        self._settle_all(now, out)

    def _settle_all(self, now: float, out: Effects) -> None:
        for local in self.locals.values():
            self._settle(local, now, out)

    # What is told of an instance.

    def seen(self, event: UnitSeen, now: float, out: Effects) -> None:
        """Take in what the service manager says of a unit."""
        local = self.locals.get(event.instance)
        if local is None:
            return
        life = local.life
        if not event.is_up:
            # While it starts it is not up yet.
            if life.state is not State.STARTING:
                self._gone(local, now, out)
            return
        is_other = event.pid != 0 and life.pid not in (0, event.pid)
        local.life = life._replace(pid=event.pid or life.pid)
        if event.is_stopping:
            self._leaves(local, now, out)
        elif life.state is State.STOPPING and not is_other:
            local.is_given_up = False
            self._happen(local, Happening.STAYED, now, out)
        elif is_other and life.state is State.LOADING:
            self._appeared(local, life.state, now)
        elif is_other or life.state in (State.UNKNOWN, State.STOPPED, State.FAILED):
            self._happen(local, Happening.APPEARED, now, out)

    def _leaves(self, local: Local, now: float, out: Effects) -> None:
        """Take in that somebody else stops it: what it has it may finish, and nobody wants it to run."""
        if local.life.state is not State.STOPPING:
            local.left_from = State.DRAINING if local.life.state is State.STARTING else local.life.state
            local.is_stop_ordered = False
            self.roster.unwant(local)
            self._happen(local, Happening.LEAVING, now, out)

    def _gone(self, local: Local, now: float, out: Effects) -> None:
        """Take in that there is no process; where nobody here wanted that, somebody else has stopped it."""
        if local.life.state in (*RUNNING, State.STOPPING) and not local.is_stop_ordered:
            local.restart_at = max(local.restart_at, now + ELSEWHERE_PAUSE_S)
        self._happen(local, Happening.GONE, now, out)

    def started(self, instance: str, now: float, out: Effects) -> None:
        """Take in that the job that starts it is done."""
        local = self.locals.get(instance)
        if local is not None and local.life.state is State.STARTING:
            self._happen(local, Happening.APPEARED, now, out)

    def stopped(self, instance: str, now: float, out: Effects) -> None:
        """Take in that the job that stops it is done."""
        local = self.locals.get(instance)
        if local is not None:
            self._gone(local, now, out)

    def failed(self, event: UnitFailed, now: float, out: Effects) -> None:
        """Take in that it did not start or stop, or ended by itself: what served before is to run again."""
        local = self.locals.get(event.instance)
        if local is None or not local.life.is_holding:
            return
        local.life = local.life._replace(reason=event.reason, last_lines=event.last_lines)
        if local.is_stop_ordered:
            # It holds its memory until it is seen to be down.
            local.count_failed_stop(now)
            self._agenda.note(local.stop_at, Due.ROOM, local.name)
            self.changed[local.name] = local
            return
        if local.life.state is State.STOPPING:
            local.life = local.life._replace(state=local.left_from)  # it did not stop, it has ended
        before = local.life.state
        self._happen(local, Happening.DIED, now, out)
        # The service manager is not to start it when there may be no room: this router does.
        out.append(StopUnit(local.name))
        if before in (State.READY, State.SUSPECT) and local.is_active:
            local.count_restart(now)
            self.wanted[local.name] = None
            local.stopped_for = StopCause.CRASH
            out.append(Announce(News.INSTANCE_DOWN, local.name, "it has ended by itself"))
        elif local.life.state is State.FAILED:
            self.roster.unwant(local)
            out.append(Announce(News.INSTANCE_DOWN, local.name, f"it did not load: {event.reason}"))

    def polled(self, local: Local, verdict: Verdict, now: float, out: Effects) -> None:
        """Take in the answer to a poll; only loading may be told unasked, as a request may show it too."""
        if local.life.polled_at is None and verdict is not Verdict.LOADING:
            return
        before = local.life.state
        local.life = on_poll(local.life, verdict, now)
        if verdict is not Verdict.FAILING:
            local.is_doubted = False
        if is_unhealthy(local.life):
            if local.life.state is State.UNKNOWN:
                self._happen(local, Happening.UNHEALTHY, now, out)
            else:
                self.restart(local, now, out)
        if local.life.state is not before:
            self._became(local, before, now, out)
        self._watch.next(local, now)

    def doubt(self, local: Local, now: float, *, has_failed: bool) -> None:
        """Poll at once what is silent; after a request has failed there, give it no more before it is healthy."""
        if local.life.state not in (State.READY, State.SUSPECT):
            return
        if has_failed and local.life.state is State.READY:
            local.life = after(local.life, Happening.DOUBTED, now)
            self._reopen(local)
        local.is_doubted = local.is_doubted or not has_failed
        self._watch.at_once(local, now)

    # What is done with it.

    def start(self, local: Local, now: float, out: Effects) -> None:
        """Order it to start."""
        self.roster.unwant(local)
        self._idleness.begin(local, now)
        local.is_stop_asked = local.is_given_up = False
        local.stopped_for = None
        local.life = after(local.life, Happening.START_ORDERED, now)._replace(reason="", last_lines=(), pid=0)
        out.append(StartUnit(local.name))
        self._await_load(local, now)

    def restart(self, local: Local, now: float, out: Effects) -> None:
        """Order it to start anew, as it does not answer; not sooner after the last time than the back-off says."""
        if not local.is_active:
            local.stopped_for = StopCause.IDLE
            self.drain(local, now, out)
            return
        if now < local.restart_at:
            self._agenda.note(local.restart_at, Due.RESTART, local.name)
            return
        local.life = after(local.life, Happening.RESTART_ORDERED, now)._replace(pid=0)
        if local.successor is not None:
            self.roster.redefine(local, local.successor)
        local.count_restart(now)
        out.append(RestartUnit(local.name))
        out.append(Announce(News.INSTANCE_DOWN, local.name, "it does not answer and is restarted"))
        self.ended.append(local.name)
        local.breaker = CLOSED
        self._await_load(local, now)

    def stop(self, local: Local, now: float, out: Effects) -> None:
        """Order it to stop."""
        local.is_stop_ordered, local.left_from = True, State.DRAINING
        local.life = after(local.life, Happening.STOP_ORDERED, now)
        self._reopen(local)
        self.roster.unwant(local)
        out.append(StopUnit(local.name))

    def drain(self, local: Local, now: float, out: Effects) -> None:
        """Give it no more requests, and stop it when those that it has are done, or their time is over."""
        local.life = after(local.life, Happening.DRAIN_ORDERED, now)
        local.drain_until = now + local.upstream.drain_s
        self.roster.unwant(local)
        self._agenda.move(local.drain_until, Due.DRAINED, local.name)
        self._settle(local, now, out)

    def leave(self, local: Local, now: float, out: Effects) -> None:
        """Have it stop; where it does not serve any more what it still does may finish first."""
        (self.stop if local.is_active else self.drain)(local, now, out)

    def freed(self, local: Local, now: float, out: Effects) -> None:
        """Take in that its last request has ended."""
        self._idleness.freed(local, now)
        if not local.is_open:
            self._settle(local, now, out)

    def served(self, local: Local, now: float) -> None:
        """Take in that an instance that is open has served a request."""
        if local.life.restarts:
            local.life = local.life._replace(restarts=0)
        if not local.flights:
            self._idleness.freed(local, now)

    def start_asked(self, local: Local, now: float, out: Effects) -> None:
        """Have it run for an operator: what failed may be tried again, what was to stop goes on."""
        local.is_stop_asked = False
        local.restart_at = now
        local.no_room = None
        local.life = after(local.life, Happening.REDEFINED, now)._replace(reason="", last_lines=())
        if local.is_active and local.bar is None:
            self.asked_for[local.name] = now
        self._settle(local, now, out)

    def stop_asked(self, local: Local, now: float, out: Effects) -> None:
        """Have it stop for an operator, once its requests are done."""
        local.is_stop_asked = True
        local.stopped_for = StopCause.ASKED
        self.roster.unwant(local)
        if local.life.state in RUNNING:
            self.drain(local, now, out)

    def forget_no_room(self) -> None:
        """Take in that there may be room now for what had none."""
        for local in self.locals.values():
            local.no_room = None

    # What time brings.

    def remind(self, due: Due, local: Local, now: float, out: Effects) -> None:
        """Look at what an instance was to be looked at for."""
        match due:
            case Due.POLL_INSTANCE:
                self._watch.ask(local, now, out)
            case Due.IDLE:
                if self._idleness.is_over(local, now):
                    local.stopped_for = StopCause.IDLE
                    self.leave(local, now, out)
            case Due.DRAINED:
                self._settle(local, now, out)
            case Due.LOADED:
                if self._watch.is_late(local, now):
                    local.is_given_up = True
                    self.stop(local, now, out)
            case _:
                if is_unhealthy(local.life):
                    self.restart(local, now, out)
                self.changed[local.name] = local

    # Its states.

    def _happen(self, local: Local, happening: Happening, now: float, out: Effects) -> None:
        before = local.life.state
        local.life = after(local.life, happening, now)
        if local.life.state is not before:
            self._became(local, before, now, out)

    def _became(self, local: Local, before: State, now: float, out: Effects) -> None:
        """Take in that it is in another state than before."""
        state = local.life.state
        local.is_stop_ordered = local.is_stop_ordered and state is State.STOPPING
        local.stopped_for = None if state in (State.LOADING, State.READY) else local.stopped_for
        if state in (State.STOPPED, State.FAILED):
            self._went_down(local, now)
        elif state is State.READY:
            self._came_up(local, before, now, out)
        elif state is State.LOADING:
            self._appeared(local, before, now)
        self._settle(local, now, out)
        self._watch.next(local, now)

    def _appeared(self, local: Local, before: State, now: float) -> None:
        if before is not State.STARTING:
            # Of what was not known yet it is the process that was there before.
            if before is not State.UNKNOWN:
                self.ended.append(local.name)
                local.appeared_at = now
                if local.successor is not None:
                    self.roster.redefine(local, local.successor)
            local.breaker = CLOSED
            self._await_load(local, now)

    def _came_up(self, local: Local, before: State, now: float, out: Effects) -> None:
        self.roster.unwant(local)
        local.no_room = None
        if before is not State.SUSPECT:
            local.breaker = CLOSED
            local.idle_since = now
            self._agenda.forget(Due.LOADED, local.name)
        if before in (State.STOPPED, State.FAILED):
            local.appeared_at = now
        self._idleness.note(local)
        # Who did not hear that it was down is not told that it is up (`announcing`).
        out.append(Announce(News.INSTANCE_UP, local.name))

    def _went_down(self, local: Local, now: float) -> None:
        self.forget_no_room()
        local.breaker = CLOSED
        local.is_doubted = local.is_yielding = False
        local.stop_at, local.stop_failures = 0.0, 0
        local.life = local.life._replace(pid=0)
        self.ended.append(local.name)
        if local.is_given_up:
            local.is_given_up = False
            local.life = local.life._replace(state=State.FAILED, since=now)
        if local.successor is not None:
            local.life = after(local.life, Happening.REDEFINED, now)
            self.roster.redefine(local, local.successor)

    def _settle(self, local: Local, now: float, out: Effects) -> None:
        """Bring what it is into line with what it is to be."""
        state = local.life.state
        if state is State.DRAINING:
            if local.is_active and local.bar is None and not local.is_stop_asked:
                local.life = after(local.life, Happening.REVIVED, now)
                self._watch.at_once(local, now)
            elif not local.flights or now >= local.drain_until:
                if now < local.stop_at:
                    self._agenda.note(local.stop_at, Due.DRAINED, local.name)
                else:
                    self.stop(local, now, out)
        elif local.must_leave and state in RUNNING:
            local.stopped_for = StopCause.CARD if local.is_listed else None
            self.drain(local, now, out)
        self._reopen(local)

    def _reopen(self, local: Local) -> None:
        stood_in = local.stands_in
        local.reopen()
        self.roster.has_redefined = self.roster.has_redefined or stood_in is not local.stands_in
        self.changed[local.name] = local

    def _await_load(self, local: Local, now: float) -> None:
        self._reopen(local)
        self._watch.await_load(local, now)
