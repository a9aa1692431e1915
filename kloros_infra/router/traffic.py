"""Requests from their asking to their end: sent, waiting in line, tried again, refused, or gone."""

from __future__ import annotations

from collections.abc import Callable

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.announcements import News
from kloros_infra.ir.routing import RoutedClient, RoutingTable
from kloros_infra.router import breaker as breakers
from kloros_infra.router import refusals, retries, unserved
from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import CLOSED, Effects, Local, Request, Station
from kloros_infra.router.breaker import Breaker
from kloros_infra.router.candidates import Candidates
from kloros_infra.router.effects import AllocationChange, Announce, Continue, Refuse, Send, Target
from kloros_infra.router.events import Ended, Outcome
from kloros_infra.router.lending import Lending, ttl_s
from kloros_infra.router.query import Refused
from kloros_infra.router.queue import Line
from kloros_infra.router.retry_count import RetryCount
from kloros_infra.router.select import Ask, Chosen, Standing, choose
from kloros_infra.router.session import Sessions
from kloros_infra.router.standings import come_again_s, standing
from kloros_infra.router.ways import ways

GOOD = frozenset({Outcome.SERVED, Outcome.REFUSED})
NO_LIMIT = 1 << 60

Find = Callable[[Request], Candidates | Refused]
"""The candidates of a request under the table of now."""
Doubt = Callable[[Station, float], None]
"""What is done with a station that has failed a request, before anyone is sent there again."""


class Traffic:
    """Owns the requests, the lines they wait in, and the budget of retries; stations it shares."""

    def __init__(self, agenda: Agenda, stations: dict[str, Station], *, seed: int, find: Find, doubt: Doubt) -> None:
        self._agenda = agenda
        self._stations = stations
        self._seed = seed
        self._find = find
        self._doubt = doubt
        self._failures = 0
        self._retries = RetryCount()
        self._queued_of: dict[str, int] = {}
        self.lending = Lending(agenda, seed=seed)
        self.sessions = Sessions()
        self.requests: dict[str, Request] = {}
        self.lines: dict[str, Line] = {}
        self.freed: list[Station] = []
        """Stations that have a place more than when someone looked."""
        self.breaker_changes = 0
        self.has_pressed = False
        """Whether somebody has come to a line since someone looked."""

    def use(self, table: RoutingTable) -> None:
        """Serve by a table."""
        self._max_queued = table.bridge.max_queued
        self._first_byte_s = table.bridge.first_byte_timeout_s
        self._stall_s = table.bridge.stall_timeout_s

    def waiting(self, model_id: str) -> int:
        """Say how many wait for a model."""
        line = self.lines.get(model_id)
        return len(line) if line else 0

    def position(self, id: str) -> int | None:
        """Say how many are served up to and with a request that waits; None where it does not."""
        request = self.requests.get(id)
        return None if request is None or not request.line else self.lines[request.line].position(id)

    # What comes of a request.

    def place(self, request: Request, now: float, out: Effects, *, client: RoutedClient | None = None) -> None:
        """Send a request, have it wait, or refuse it; one that comes back to a line is let in however long it is."""
        is_new = request.attempt == 0 and not request.ways
        max_queued = self._max_queued if is_new else NO_LIMIT
        ask = Ask(request.asked.tokens, self._session_target(request, now), request.tried)
        chosen = choose(request.found, lambda target: self.standing(target, now, max_queued), ask)
        if isinstance(chosen, Refused):
            self._refuse_choice(request, chosen, now, out)
        elif self._stations[chosen.target.name].takes(now):
            self.send(request, chosen, now, out)
        else:
            self._wait(request, chosen, client if is_new else None, out)

    def _session_target(self, request: Request, now: float) -> str | None:
        """Name where a request's session was served, if it can be served there at once."""
        session = request.asked.session
        target = self.sessions.target(session, now) if session is not None else None
        station = self._stations.get(target) if target is not None else None
        return target if station is not None and station.takes(now) else None

    def standing(self, target: Target, now: float, max_queued: int = NO_LIMIT) -> Standing:
        """Say how a target stands now."""
        station = self._stations[target.name]
        return standing(station, now=now, queued=self.waiting(station.model_id), max_queued=max_queued)

    def send(self, request: Request, chosen: Chosen, now: float, out: Effects) -> None:
        """Send a request to a target that takes it."""
        send = self.sent(request, self._stations[chosen.target.name], chosen, now)
        out.append(Continue(send) if request.has_begun else send)

    def sent(self, request: Request, station: Station, chosen: Chosen, now: float) -> Send:
        """Take in that a request goes to a target that takes it; give what is to be sent."""
        candidate, target, reason = chosen
        asked = request.asked
        id, left_s = asked.id, max(asked.deadline_at - now, 0.0)
        attempt = request.attempt = request.attempt + 1
        request.station, request.sent_at = station, now
        station.flights.add(id)
        if attempt == 1:
            self._retries.note_request(now)
        elif not request.is_spared:
            self._retries.note_retry(now)
        if station.breaker is not CLOSED:
            before, station.breaker = station.breaker, breakers.on_probe(station.breaker, now)
            request.is_probe = station.breaker is not before
        first_byte_s, found = self._first_byte_s, request.found
        fields = (
            id,
            target,
            candidate.model,
            found.persona,
            attempt,
            reason,
            self.lending.begin(request, now),
            first_byte_s if first_byte_s < left_s else left_s,
            self._stall_s,
            found.can_continue_elsewhere,
            left_s,
        )
        # What Send(*fields) comes to, in less than half the time.
        return tuple.__new__(Send, fields)

    def serve(self, station: Station, now: float, out: Effects) -> None:
        """Give a station those that wait for it, as long as it takes them."""
        line = self.lines.get(station.model_id)
        while line and station.takes(now):
            id = line.take(lambda id: station.name in self.requests[id].ways)
            if id is None:
                return
            request = self.requests[id]
            self._left_line(request)
            self.send(request, request.ways[station.name], now, out)

    def replace_waiting(self, model_id: str, now: float, out: Effects) -> None:
        """Choose anew for all that wait for a model, in their order."""
        for id in tuple(self.lines.get(model_id, ())):
            request = self.requests[id]
            self._unline(request)
            found = self._find(request)
            if isinstance(found, Refused):
                self.refuse(request, found.problem, out, is_temporary=found.is_temporary)
            else:
                request.found = found
                self.place(request, now, out)

    def refuse(
        self, request: Request, problem: Diagnostic, out: Effects, *, is_temporary: bool, after_s: float | None = None
    ) -> None:
        """End a request with a refusal."""
        self.requests.pop(request.asked.id, None)
        out.append(Refuse(request.asked.id, problem, is_temporary, after_s))

    def evict(self, station: Station, out: Effects) -> None:
        """Take back what is lent of a station that stops whatever it still does."""
        for id in sorted(station.flights):
            self.lending.end(self.requests[id], AllocationChange.EVICTED, out)

    # What is told of a request.

    def left(self, id: str, out: Effects) -> None:
        """Forget a request that nobody waits for any more."""
        request = self.requests.pop(id, None)
        if request is None:
            return
        station = request.station
        if station is None:
            self._unline(request)
            return
        self._end_attempt(request, station, out)
        if request.is_probe:
            station.breaker = breakers.on_abandoned(station.breaker)

    def begun(self, id: str, now: float) -> None:
        """Take in that an answer has begun."""
        request = self.requests.get(id)
        if request is None or request.station is None:
            return
        request.has_begun = True
        seconds = now - request.sent_at
        if request.asked.tokens and seconds > 0:
            request.station.note_prefill(request.asked.tokens / seconds)

    def ended(self, event: Ended, now: float, out: Effects) -> None:
        """Take in the end of an attempt: it is the end of the request, or another attempt follows."""
        request = self.requests.get(event.id)
        if request is None or request.station is None:
            return
        station, outcome = request.station, event.outcome
        self._end_attempt(request, station, out)
        if outcome in GOOD:
            del self.requests[event.id]
            self._worked(request, station, now, out)
        else:
            self._faltered(request, station, event, now, out)

    def served_at_once(self, id: str, now: float) -> Station | None:
        """Take in that a request was served, as `ended` would; None where more follows than a free place."""
        request = self.requests.get(id)
        station = request.station if request is not None else None
        if request is None or station is None or request.lease is not None or request.asked.session is not None:
            return None
        if station.breaker is not CLOSED or not station.is_open or self.lines.get(station.model_id):
            return None
        if station.stands_in:
            return None
        del self.requests[id]
        station.flights.discard(id)
        station.note_seconds(now - request.sent_at)
        return station

    def overdue(self, id: str, now: float, out: Effects) -> None:
        """Refuse what has waited until its deadline."""
        request = self.requests[id]
        model_id = request.line
        self._unline(request)
        self.has_pressed = True
        self._refuse_late(request, self._stations[next(iter(request.ways))], model_id, now, out)

    # How.

    def _worked(self, request: Request, station: Station, now: float, out: Effects) -> None:
        station.note_seconds(now - request.sent_at)
        if isinstance(station, Local) and station.life.restarts:
            station.life = station.life._replace(restarts=0)
        if station.breaker is not CLOSED and (request.is_probe or not station.breaker.is_probing):
            self._set_breaker(station, breakers.on_success(station.breaker, now), out)
        session = request.asked.session
        if session is not None:
            self.sessions.served(session, station.name, until=now + ttl_s(station))

    def _faltered(self, request: Request, station: Station, event: Ended, now: float, out: Effects) -> None:
        """Take in an attempt that failed: whose fault it was, and what follows."""
        outcome, is_late = event.outcome, now >= request.asked.deadline_at
        request.is_spared = False
        if outcome not in breakers.BLAMED:
            self._set_breaker(station, breakers.on_busy(station.breaker, now, event.retry_after_s), out)
            request.is_spared = _falls_with_others(request, station, now)
        elif outcome is Outcome.SILENT and is_late:
            # It was given less time than others: that tells nothing of it.
            if request.is_probe:
                station.breaker = breakers.on_abandoned(station.breaker)
        else:
            self._blame(request, station, now, out)
            self._doubt(station, now)
            request.is_spared = _falls_with_others(request, station, now)
        request.tried |= {station.name}
        request.is_probe = False
        if request.has_begun:
            self._continue(request, now, out)
        elif is_late:
            self._refuse_late(request, station, None, now, out)
        elif not retries.is_worth_retrying(outcome, attempt=request.attempt, has_begun=False) or not (
            self._may_retry(request, now)
        ):
            problem = unserved.attempts_failed(station.name, outcome, request.attempt)
            after_s = come_again_s(station, 0, now)
            self.refuse(request, problem, out, is_temporary=True, after_s=after_s)
        else:
            self._place_again(request, now, out)

    def _may_retry(self, request: Request, now: float) -> bool:
        return request.is_spared or self._retries.may_retry(now)

    def _place_again(self, request: Request, now: float, out: Effects) -> None:
        found = self._find(request)
        if isinstance(found, Refused):
            self.refuse(request, found.problem, out, is_temporary=found.is_temporary)
        else:
            request.found = found
            self.place(request, now, out)

    def _continue(self, request: Request, now: float, out: Effects) -> None:
        """Have another go on with a broken answer, where that is allowed, once one can; else it has ended."""
        found = self._find(request)
        may = request.found.can_continue_elsewhere and request.attempt <= retries.MOST_RETRIES
        if may and not isinstance(found, Refused) and self._may_retry(request, now):
            ask = Ask(request.asked.tokens, None, request.tried)
            chosen = choose(found, lambda target: self.standing(target, now), ask)
            if isinstance(chosen, Chosen) and chosen.target.name not in request.tried:
                request.found = found
                if self._stations[chosen.target.name].takes(now):
                    self.send(request, chosen, now, out)
                else:
                    # A profile's instance may still load as the one before it has to end.
                    self._wait(request, chosen, None, out)
                return
        del self.requests[request.asked.id]

    def _blame(self, request: Request, station: Station, now: float, out: Effects) -> None:
        if request.is_probe or not station.breaker.is_probing:
            self._failures += 1
            jitter = breakers.jitter_of(self._seed, self._failures)
            self._set_breaker(station, breakers.on_failure(station.breaker, now, jitter), out)

    def _set_breaker(self, station: Station, breaker: Breaker, out: Effects) -> None:
        before, station.breaker = station.breaker, CLOSED if breaker == CLOSED else breaker
        at = breakers.passes_at(station.breaker)
        if at:
            self._agenda.move(at, Due.PASSES, station.name)
        if breaker.state is not before.state:
            self.breaker_changes += 1
            out.append(_news_of(station, is_well=breaker.state is breakers.State.CLOSED))

    def _end_attempt(self, request: Request, station: Station, out: Effects) -> None:
        request.station = None
        station.flights.discard(request.asked.id)
        self.freed.append(station)
        self.lending.end(request, AllocationChange.RELEASED, out)

    def _wait(self, request: Request, chosen: Chosen, client: RoutedClient | None, out: Effects) -> None:
        name = request.asked.client
        queued = self._queued_of.get(name, 0)
        if client is not None and client.max_queued is not None and queued >= client.max_queued:
            problem = refusals.line_full_of(client.name, client.max_queued)
            self.refuse(request, problem, out, is_temporary=True, after_s=1.0)
            return
        model_id = chosen.candidate.model.id
        request.line, request.ways = model_id, ways(chosen, tokens=request.asked.tokens, tried=request.tried)
        self.lines.setdefault(model_id, Line()).add(request.asked.id, client=name, rank=request.rank)
        self._queued_of[name] = queued + 1
        self._agenda.note(request.asked.deadline_at, Due.DEADLINE, request.asked.id)
        self.has_pressed = True

    def _unline(self, request: Request) -> None:
        """Take a request out of its line."""
        self.lines[request.line].remove(request.asked.id)
        self._left_line(request)

    def _left_line(self, request: Request) -> None:
        """Take in that a request has left its line."""
        name = request.asked.client
        request.line = ""
        left = self._queued_of[name] - 1
        if left:
            self._queued_of[name] = left
        else:
            del self._queued_of[name]
        self._agenda.forget(Due.DEADLINE, request.asked.id)

    def _refuse_late(self, request: Request, station: Station, model_id: str | None, now: float, out: Effects) -> None:
        problem = unserved.too_late(model_id, now - request.asked_at)
        after_s = come_again_s(station, self.waiting(station.model_id), now)
        self.refuse(request, problem, out, is_temporary=True, after_s=after_s)

    def _refuse_choice(self, request: Request, refused: Refused, now: float, out: Effects) -> None:
        """Refuse where no target can serve, for what is nearest to serving."""
        targets = [target for choice in request.found.choices for target in choice.targets]
        stations = [self._stations[target.name] for target in targets]
        problem = unserved.none_of(stations, refused)
        if not refused.is_temporary:
            self.refuse(request, problem, out, is_temporary=False)
            return
        full = [s for s in stations if self.waiting(s.model_id) >= self._max_queued]
        waits = [come_again_s(s, self.waiting(s.model_id), now) for s in full or stations]
        if full and not request.attempt:
            position = self.waiting(full[0].model_id)
            problem = unserved.line_full(full[0].model_id, position)
            self.requests.pop(request.asked.id, None)
            out.append(Refuse(request.asked.id, problem, True, min(waits), position + 1))
            return
        self.refuse(request, problem, out, is_temporary=True, after_s=min(waits))


def _falls_with_others(request: Request, station: Station, now: float) -> bool:
    """Say whether a target failed a request that was on its way already when it failed another.

    A server that dies fails all that it has at once. That is one failure, and costs the budget one retry: it is there
    to keep load from what fails again and again, and of these each goes elsewhere, or waits until the target is well.
    """
    if request.sent_at < station.broken_at:
        return True
    station.broken_at = now
    return False


def _news_of(station: Station, *, is_well: bool) -> Announce:
    """Tell that a target gets requests again, or none for a while."""
    if not isinstance(station, Local):
        return Announce(News.REMOTE_CONNECTED if is_well else News.REMOTE_UNAVAILABLE, station.name)
    reason = "" if is_well else "it has failed too often"
    return Announce(News.INSTANCE_UP if is_well else News.INSTANCE_DOWN, station.name, reason)
