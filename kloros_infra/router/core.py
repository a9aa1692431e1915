"""The router's core: what happens goes in with the time, what is to be done comes out (no I/O, no clock, no chance).

It alone owns the state: `traffic` the requests and their lines, `fleet` the instances of this machine, `starting` who
of them is started and who makes room, `hosts` the remote ones, `agenda` what is due when. This module says which of
them is told what, and settles between them what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kloros_infra.ir.announcements import News
from kloros_infra.ir.routing import LOCAL_PRIORITY, RoutingTable
from kloros_infra.router import demands, reports, unserved, views
from kloros_infra.router.admission import Admission
from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import CLOSED, Effects, Local, Remote, Request, Station
from kloros_infra.router.candidates import Candidates
from kloros_infra.router.cards import cards_of
from kloros_infra.router.definitions import as_running
from kloros_infra.router.effects import AllocationChange, Announce, Effect, Refuse, Send
from kloros_infra.router.events import (
    Asked,
    Began,
    CardsSeen,
    CardsStand,
    Doubted,
    Ended,
    Event,
    Left,
    Outcome,
    Polled,
    StartAsked,
    StopAsked,
    TableReplaced,
    Ticked,
    Toggled,
    UnitFailed,
    UnitSeen,
    UnitStarted,
    UnitStopped,
)
from kloros_infra.router.explain import Explanation, Situation, explain
from kloros_infra.router.fleet import Fleet
from kloros_infra.router.hosts import Hosts
from kloros_infra.router.instance import State
from kloros_infra.router.lease import Adopted, Lease, changed
from kloros_infra.router.query import Query, Refused
from kloros_infra.router.select import Ask
from kloros_infra.router.standings import is_no_help
from kloros_infra.router.starting import Starter
from kloros_infra.router.traffic import Traffic


class Core:
    """Takes in events and gives effects; the questions change nothing."""

    def __init__(
        self, table: RoutingTable, *, profile: str, now: float, seed: int = 0, leases: Iterable[Lease] = ()
    ) -> None:
        self.agenda = Agenda()
        self._adopted = Adopted(leases, now)
        self._stations: dict[str, Station] = {}
        self._traffic = Traffic(self.agenda, self._stations, seed=seed, find=self._find, doubt=self._doubt)
        waiting = self._traffic.waiting
        self._fleet = Fleet(self.agenda, waiting, self._adopted.is_lent)
        self._admission = Admission(table, profile)
        self._starter = Starter(self._fleet, self.agenda, waiting, self._adopted.is_active)
        self._hosts = Hosts(self.agenda)
        self._is_pressed = False
        """Whether requests wait for an instance that does not run."""
        self._changes = 0
        self.agenda.note(now, Due.LEASE, "")
        self._handlers: dict[type, Callable[[Any, float, Effects], None]] = {
            Asked: self._asked,
            Ended: self._ended,
            Began: lambda event, now, _: self._traffic.begun(event.id, now),
            Left: self._left,
            Polled: self._polled,
            Doubted: self._doubted,
            UnitSeen: self._told(self._fleet.seen),
            UnitStarted: self._told(lambda event, now, out: self._fleet.started(event.instance, now, out)),
            UnitFailed: self._told(self._failed),
            UnitStopped: self._told(lambda event, now, out: self._fleet.stopped(event.instance, now, out)),
            TableReplaced: lambda event, now, out: self._serve_anew(event.table, self.profile, now, out),
            CardsStand: self._cards_stand,
            CardsSeen: self._cards_seen,
            Toggled: self._told(self._hosts.toggled),
            StartAsked: self._start_asked,
            StopAsked: self._stop_asked,
            Ticked: self._ticked,
        }
        self._serve_anew(table, profile, now, [])

    def on(self, event: Event, now: float) -> list[Effect]:
        """Take in what has happened, and say what is to be done."""
        out: Effects = []
        self._handlers[type(event)](event, now, out)
        return out

    def next_at(self) -> float | None:
        """Say when `Ticked` is wanted."""
        return self.agenda.next_at()

    def at_once(self, asked: Asked, now: float) -> Send | None:
        """Decide the usual case of `Asked` as `on` would, which has to be asked where this gives None.

        Most requests are for a model whose first target is ready and free, of clients without a rate.
        """
        id, query, client, deadline_at, tokens, session, priority = asked
        usual = self._admission.usual.get((query, client))
        traffic = self._traffic
        if usual is None or session is not None or id in traffic.requests or now >= deadline_at:
            return None
        found, chosen, name, context_tokens, rank = usual
        station = self._stations[name]
        is_free = station.is_open and len(station.flights) < station.limit
        if tokens >= context_tokens or not is_free or station.breaker is not CLOSED:
            return None
        request = traffic.requests[id] = Request(asked, found, rank if priority is None else found.rank(priority), now)
        return traffic.sent(request, station, chosen, now)

    # What may be asked of it.

    @property
    def changes(self) -> int:
        """Count what has changed of what `health` says of targets, requests aside."""
        return self._changes + self._traffic.breaker_changes

    def health(self, now: float) -> dict[str, Any]:
        """Give what `llm.health` says of every target (design document, section 7), without its timestamp."""
        return reports.health(self._stations.values(), self._traffic.waiting, profile=self.profile, now=now)

    def explain(self, query: Query, now: float, *, client: str = "", ask: Ask | None = None) -> Explanation:
        """Decide as for a request, and keep what was looked at."""
        routed = self._admission.named(client)
        standing = reports.standings(self._traffic, self.table.bridge.max_queued, now)
        return explain(self._admission.running, query, Situation(self.profile, standing, routed, ask or Ask()))

    def queue_position(self, id: str) -> int | None:
        """Say how many are served up to and with a request that waits; None where it does not."""
        return self._traffic.position(id)

    def why_stopped(self, target: str) -> str | None:
        """Say why an instance was stopped, where that is known."""
        local = self._fleet.locals.get(target)
        return None if local is None else reports.why_stopped(local)

    def overview(self, now: float) -> views.Overview:
        """Say how each instance is and who waits, for operators."""
        return views.overview(self._fleet.locals.values(), self._traffic, now)

    # Requests.

    def _asked(self, event: Asked, now: float, out: Effects) -> None:
        traffic = self._traffic
        if event.id in traffic.requests:
            return  # told twice
        send = self.at_once(event, now)
        if send is not None:
            out.append(send)
            return
        client = self._admission.named(event.client)
        found = self._admission.admitted(event, client, now, out)
        if found is None:
            return
        rank = found.rank(event.priority)
        request = Request(event, found, rank, now)
        if now >= event.deadline_at:
            out.append(Refuse(event.id, unserved.too_late(None, 0.0), is_temporary=True))
            return
        traffic.requests[event.id] = request
        traffic.place(request, now, out, client=client)
        if isinstance(request.station, Remote):
            self._start_behind(request.station)
        if self._fleet.wanted or (request.line and demands.of_line(request.line, traffic, self._fleet) is not None):
            self._settle(now, out)

    def _start_behind(self, station: Remote) -> None:
        """Have an instance start, where there is room, that would have come before the host that serves meanwhile."""
        local = self._fleet.serving(station.model_id)
        if local is not None and local.life.state is State.STOPPED and station.host.priority >= LOCAL_PRIORITY:
            self._fleet.wanted[local.name] = None

    def _find(self, request: Request) -> Candidates | Refused:
        asked = request.asked
        return self._admission.candidates(asked.query, asked.client, self._admission.named(asked.client))

    def served(self, id: str, now: float) -> bool:
        """Take in the usual case of `Ended`, after which nothing is to be done; where this gives False tell `on`."""
        fleet, traffic = self._fleet, self._traffic
        if self._is_pressed or traffic.has_pressed or fleet.changed or self._hosts.changed:
            return False
        station = traffic.served_at_once(id, now)
        if station is None:
            return False
        if isinstance(station, Local):
            fleet.served(station, now)
        return True

    def _ended(self, event: Ended, now: float, out: Effects) -> None:
        if event.outcome is Outcome.SERVED and self.served(event.id, now):
            return
        self._traffic.ended(event, now, out)
        self._after_attempt(now, out)

    def _left(self, event: Left, now: float, out: Effects) -> None:
        self._traffic.left(event.id, out)
        self._after_attempt(now, out)

    def _after_attempt(self, now: float, out: Effects) -> None:
        """Give free places to those that wait, and settle what an end changes for others."""
        traffic = self._traffic
        needs_settling = self._is_pressed or traffic.has_pressed or bool(self._fleet.changed or self._hosts.changed)
        while traffic.freed:
            station = traffic.freed.pop()
            if traffic.lines.get(station.model_id):
                traffic.serve(station, now, out)
            if not station.flights and isinstance(station, Local):
                self._fleet.freed(station, now, out)
                # What stands in makes way for another at the first moment that nobody needs it.
                needs_settling = needs_settling or bool(self._fleet.changed) or station.stands_in
        if needs_settling:
            self._settle(now, out)

    # Targets.

    def _told(self, tell: Callable[[Any, float, Effects], None]) -> Callable[[Any, float, Effects], None]:
        """Settle what follows from what the service manager says."""

        def handler(event: Any, now: float, out: Effects) -> None:
            tell(event, now, out)
            self._settle_changed(now, out)

        return handler

    def _failed(self, event: UnitFailed, now: float, out: Effects) -> None:
        self._fleet.failed(event, now, out)
        self._starter.forgive(now)

    def _polled(self, event: Polled, now: float, out: Effects) -> None:
        if (local := self._fleet.locals.get(event.target)) is not None:
            self._fleet.polled(local, event.verdict, now, out)
        elif (host := self._hosts.of(event.target)) is not None:
            self._hosts.polled(host, event.verdict, now, out)
        self._settle_changed(now, out)

    def _doubted(self, event: Doubted, now: float, out: Effects) -> None:
        if (local := self._fleet.locals.get(event.target)) is not None:
            self._fleet.doubt(local, now, has_failed=False)
        elif (host := self._hosts.of(event.target)) is not None:
            self._hosts.poll_at_once(host, now)
        self._run_due(now, out)

    def _start_asked(self, event: StartAsked, now: float, out: Effects) -> None:
        """Start for an operator: what failed is tried again, what was to stop stays; room is made as for a request."""
        local = self._fleet.locals.get(event.instance)
        if local is not None:
            self._fleet.start_asked(local, now, out)
        self._settle(now, out)

    def _stop_asked(self, event: StopAsked, now: float, out: Effects) -> None:
        local = self._fleet.locals.get(event.instance)
        if local is not None:
            self._fleet.stop_asked(local, now, out)
        self._settle(now, out)

    def _cards_seen(self, event: CardsSeen, now: float, out: Effects) -> None:
        self._starter.foreign = dict(event.foreign_mib)
        self._fleet.forget_no_room()
        self._starter.forgive(now)
        self._settle(now, out)

    def _cards_stand(self, event: CardsStand, now: float, out: Effects) -> None:
        """Take in how the cards stand; those that wait are placed anew only once the profile is that of now."""
        self._fleet.use_cards(cards_of(event), now, out)
        if event.profile != self.profile:
            out.append(Announce(News.PROFILE_CHANGED, event.profile, event.reason))
            self._serve_anew(self.table, event.profile, now, out)
        self._settle_changed(now, out)

    def _serve_anew(self, table: RoutingTable, profile: str, now: float, out: Effects) -> None:
        """Take in another table or profile: what is the same in both goes on, and all that wait are placed anew."""
        self.table, self.profile = table, profile
        self._admission.use(table, profile)
        self._starter.capacities = {capacity.card: capacity.mib for capacity in table.capacities}
        self._traffic.use(table)
        self._hosts.replace(table, now)
        self._fleet.replace(table, profile, now, out)
        self._stations.clear()
        self._stations.update(self._fleet.locals)
        for host in self._hosts.hosts.values():
            self._stations.update(host.stations)
        self._serve_as_running(now, out)
        self._settle(now, out)

    def _serve_as_running(self, now: float, out: Effects) -> None:
        """Send to each instance as its process is, and place all that wait anew."""
        self._fleet.roster.has_redefined = False
        self._admission.serve(as_running(self.table, self.profile, self._fleet.locals.values()))
        for model_id in tuple(self._traffic.lines):
            self._traffic.replace_waiting(model_id, now, out)

    # Time.

    def _ticked(self, _: Ticked, now: float, out: Effects) -> None:
        self._run_due(now, out)

    def _run_due(self, now: float, out: Effects) -> None:
        """Do what is due, and settle what follows."""
        while (reminder := self.agenda.take(now)) is not None:
            self._remind(*reminder, now, out)
        self._settle_changed(now, out)

    def _remind(self, due: Due, key: str, now: float, out: Effects) -> None:
        match due:
            case Due.DEADLINE:
                self._traffic.overdue(key, now, out)
            case Due.PASSES:
                if (station := self._stations.get(key)) is not None:
                    self._traffic.serve(station, now, out)
            case Due.POLL_HOST:
                if (host := self._hosts.hosts.get(key)) is not None:
                    self._hosts.poll(host, now, out)
            case Due.YOUNG:
                self._traffic.lending.tell(self._traffic.requests.values(), self.profile, now, out)
            case Due.LEASE:
                self._expire(now, out)
            case _:
                if (local := self._fleet.locals.get(key)) is not None:
                    self._fleet.remind(due, local, now, out)

    def _expire(self, now: float, out: Effects) -> None:
        out.extend(changed(lease, AllocationChange.EXPIRED) for lease in self._adopted.expired(now))
        if (at := self._adopted.next_at(now)) is not None:
            self.agenda.note(at, Due.LEASE, "")
        self._traffic.has_pressed = True

    # What follows from one for the others.

    def _settle_changed(self, now: float, out: Effects) -> None:
        """Settle, if anything has changed that others go by."""
        if self._fleet.changed or self._hosts.changed or self._traffic.has_pressed:
            self._settle(now, out)

    def _settle(self, now: float, out: Effects) -> None:
        """Bring lines, instances and room into line with each other, until nothing more follows."""
        while True:
            self._traffic.has_pressed = False
            self._part_with_ended(out)
            if self._fleet.roster.has_redefined:
                self._serve_as_running(now, out)
            self._serve_changed(now, out)
            of_lines = tuple(demands.of_lines(self._traffic, self._fleet))
            self._starter.settle((*of_lines, *demands.of_operators(self._fleet)), now, out)
            self._is_pressed = bool(of_lines)
            if not (self._fleet.changed or self._hosts.changed or self._traffic.has_pressed):
                break

    def _doubt(self, station: Station, now: float) -> None:
        """Ask a target that has failed a request for its health; an instance gets none before it is healthy."""
        if isinstance(station, Local):
            self._fleet.doubt(station, now, has_failed=True)
        else:
            self._hosts.doubt(station, now)

    def _part_with_ended(self, out: Effects) -> None:
        """Take in that processes have ended, and with them what was lent of them and their caches."""
        ended, self._fleet.ended = self._fleet.ended, []
        for name in ended:
            self._traffic.sessions.forget(name)
            out.extend(changed(lease, AllocationChange.EVICTED) for lease in self._adopted.of(name))

    def _serve_changed(self, now: float, out: Effects) -> None:
        """Serve those that wait for what has opened, and choose anew for those that wait for what has closed."""
        locals_, self._fleet.changed = self._fleet.changed, {}
        remotes, self._hosts.changed = self._hosts.changed, {}
        for local in locals_.values():
            if local.is_stop_ordered:
                self._traffic.evict(local, out)
            if self._fleet.roster.forget(local):
                self._stations.pop(local.name, None)
        for station in (*locals_.values(), *remotes.values()):
            self._changes += station.has_news()
            if station.is_open:
                self._traffic.serve(station, now, out)
            if self._traffic.waiting(station.model_id) and is_no_help(station):
                self._traffic.replace_waiting(station.model_id, now, out)
