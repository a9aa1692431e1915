"""A simulated machine for the router's core: units that load, hang and vanish, hosts, clients that leave.

It plays the desk's part, and checks after every step what must always hold.
"""

from __future__ import annotations

from functools import partial

from kloros_infra.router.breaker import BLAMED, FAILURES_IN_A_ROW, FIRST_OPEN_S, JITTER, State
from kloros_infra.router.effects import (
    Allocated,
    AllocationChange,
    Announce,
    Continue,
    Effect,
    Poll,
    Refuse,
    RestartUnit,
    Send,
    StartUnit,
    StopUnit,
)
from kloros_infra.router.events import (
    Asked,
    Began,
    CardsSeen,
    CardsStand,
    ClosedCard,
    Doubted,
    Ended,
    Left,
    Outcome,
    Polled,
    StartAsked,
    StopAsked,
    TableReplaced,
    Toggled,
    UnitFailed,
    UnitSeen,
    Verdict,
)
from tests.unit.router.simulated_steps import Ask, Card, Foreign, HostIs, Leave, Operator, Process, Profile, Step, Table
from tests.unit.router.simulated_units import Units
from tests.unit.router.simulated_world import Asker, Flight, Unit

YOUNG_S = 0.05
ANSWER_S = 0.001
DOUBT_S = 0.5
REMOTE_LIMIT = 8
LONGEST_S = 200.0
SETTLING_S = 4.0


class Machine(Units):
    """Runs a scenario against a core."""

    def run(self) -> None:
        """Play all steps, then let everything come to its end."""
        at = 0.0
        for name in self.units:
            self._after(0.005, partial(self._seen, name))
        for pause_s, step in self.scenario.steps:
            at += pause_s
            self._at(at, partial(self._play, step))
        self._until(at)
        deadline = at + LONGEST_S
        while self._is_open() and self.now < deadline:
            self._until(self.now + 1.0)
        self._until(self.now + SETTLING_S)
        self._check_end()

    # What the core wants done.

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case Continue(send):
                asker = self.askers[send.id]
                self._check(asker.has_begun, f"{send.id} is to be continued before it has begun")
                self._send(send)
            case Refuse(id, problem):
                asker = self.askers[id]
                self._check(asker.end is None, f"{id} is refused after its end ({asker.end})")
                self._check(asker.flight is None, f"{id} is refused while it is asked for")
                self._check(bool(problem.code and problem.detail), "a refusal without a reason")
                self._check_refusal(asker, problem.code)
                if problem.code == "KI871":
                    self._check((effect.position or 0) > self.table.bridge.max_queued, "refused while there is room")
                asker.end = f"refused {problem.code}"
            case Poll(target, _, timeout_s):
                self._poll(target.name, timeout_s)
            case Allocated():
                self._allocated(effect)
            case Announce(_, subject):
                self._check(bool(subject), "an announcement of nothing")
            case _:
                self._order_unit(effect)

    def _check_refusal(self, asker: Asker, code: str) -> None:
        """Nobody is turned away, whatever profile or cards do, while one that can serve him has a place for him."""
        model = next((model for model in self.table.models if model.id == asker.ask.query.model), None)
        if model is None or code not in ("KI806", "KI809", "KI876"):
            return
        places = {u.instance: u.context_tokens for u in model.upstreams}
        for name, station in self.core._stations.items():
            if name in places and station.takes(self.now) and asker.ask.tokens < places[name]:
                self._check(asker.attempts > 0, f"refused with {code} while {name} has a place")

    def _order_unit(self, effect: StartUnit | StopUnit | RestartUnit) -> None:
        match effect:
            case StartUnit(instance):
                self._start(instance)
            case StopUnit(instance):
                self._stop(instance)
            case RestartUnit(instance):
                self._restart(instance)

    def _send(self, send: Send) -> None:
        asker = self.askers[send.id]
        name = send.target.name
        self._check(asker.end is None, f"{send.id} is sent after its end ({asker.end})")
        self._check(asker.flight is None, f"{send.id} is sent twice at once")
        asker.attempts += 1
        self._check(send.attempt == asker.attempts <= 3, f"{send.id}: attempt {send.attempt}")
        self._check(send.allocation_id not in self.sent, f"{send.id} is sent under another's allocation")
        self.sent[send.allocation_id] = self.now
        self._check(asker.has_begun or self.now <= asker.deadline_at, f"{send.id} is sent after its deadline")
        self._check(name.partition("/")[0] not in self.hosts_off, f"{send.id} is sent to {name}, which is off")
        flights = self.in_flight.setdefault(name, set())
        flights.add(send.id)
        unit = self.units.get(name)
        limit = unit.upstream.parallel if unit is not None else REMOTE_LIMIT
        self._check(len(flights) <= limit, f"{name} has {len(flights)} requests at a time of {limit}")
        if unit is not None:
            self._check(unit.is_orderly, f"{send.id} is sent to {name}, which was ordered to stop")
            self._check(self._may_serve(name), f"{send.id} is sent to {name} of another profile, or on a closed card")
        self._check_breaker(name, flights)
        asker.flight = flight = Flight(send, self.now)
        self._carry(name, flight, asker.ask)

    def _may_serve(self, name: str) -> bool:
        """Say whether an instance serves, or may stay and serve though its profile is not active."""
        if self._is_active(name):
            return not self._is_on(name, "closed")
        return self._upstream(name) is not None and not self._is_on(name, "closed", "taken")

    def _check_breaker(self, name: str, flights: set[str]) -> None:
        state = self.core._stations[name].breaker.state
        self._check(state is not State.OPEN, f"{name} gets a request while its breaker is open")
        self._check(self.now >= self.blocked_until.get(name, 0.0), f"{name} gets a request too soon after its failures")
        if self.streaks.get(name, 0) >= FAILURES_IN_A_ROW and name not in self.units:
            self._check(state is State.HALF_OPEN, f"{name} gets more than a probe")

    def _carry(self, name: str, flight: Flight, ask: Ask) -> None:
        """Let the target answer as it is, and as the request is."""
        unit = self.units.get(name)
        end = partial(self._end, flight)
        if unit is not None and unit.phase != "up":
            outcome = Outcome.LOADING if unit.phase == "loading" else Outcome.UNREACHED
            self._after(ANSWER_S, partial(end, outcome))
        elif unit is None and name.partition("/")[0] in self.hosts_down:
            self._after(ANSWER_S, partial(end, Outcome.UNREACHED))
        elif (unit is not None and unit.is_hung) or ask.outcome is Outcome.SILENT:
            self._silent(name, flight)
        elif ask.outcome in (Outcome.STALLED, Outcome.BROKEN):
            self._after(ask.seconds / 2, partial(self._begin, flight))
            self._after(ask.seconds, partial(end, ask.outcome))
        else:
            if ask.seconds > 0.2 and ask.outcome is Outcome.SERVED:
                self._after(ask.seconds / 2, partial(self._begin, flight))
            self._after(min(ask.seconds, flight.send.first_byte_s), partial(end, ask.outcome))

    def _silent(self, name: str, flight: Flight) -> None:
        self._after(flight.send.first_byte_s, partial(self._end, flight, Outcome.SILENT))
        self._after(DOUBT_S, partial(self._doubt, name, flight))

    def _doubt(self, name: str, flight: Flight) -> None:
        if not flight.is_over and not flight.has_begun:
            self._doubted[name] = True
            self.tell(Doubted(name))

    def _begin(self, flight: Flight) -> None:
        unit = self.units.get(flight.send.target.name)
        if not flight.is_over and not (unit is not None and unit.is_hung):
            flight.has_begun = self.askers[flight.send.id].has_begun = True
            self.tell(Began(flight.send.id))

    def _end(self, flight: Flight, outcome: Outcome) -> None:
        """End an attempt, unless it has ended; what hangs ends when it is killed, or its time is over."""
        name = flight.send.target.name
        if flight.is_over:
            return
        unit = self.units.get(name)
        if unit is not None and unit.is_hung and outcome is Outcome.SERVED:
            if flight.has_begun:
                self._after(flight.send.stall_s, partial(self._end, flight, Outcome.STALLED))
            else:
                self._silent(name, flight)
            return
        if outcome in (Outcome.STALLED, Outcome.BROKEN) and not flight.has_begun:
            outcome = Outcome.BROKEN
        asker = self.askers[flight.send.id]
        if self.now > self.sent[flight.send.allocation_id] + YOUNG_S + 0.001 and (unit is None or unit.is_orderly):
            self._check(flight.send.allocation_id in self.told_of, f"nobody was told of {flight.send.allocation_id}")
        flight.is_over = True
        self.in_flight[name].discard(flight.send.id)
        asker.flight = None
        self._count_streak(name, flight, outcome)
        is_told = outcome in (Outcome.SERVED, Outcome.REFUSED) or asker.has_begun
        before = asker.attempts
        retry_after_s = 1.5 if outcome is Outcome.BUSY else None
        if is_told:
            asker.end = f"ended {outcome.value}" if outcome in (Outcome.SERVED, Outcome.REFUSED) else None
        self.tell(Ended(flight.send.id, outcome, retry_after_s))
        waits = self.core.queue_position(flight.send.id) is not None
        if is_told and asker.end is None and asker.attempts == before and not waits:
            asker.end = f"ended {outcome.value}"

    def _count_streak(self, name: str, flight: Flight, outcome: Outcome) -> None:
        """Keep a plain account of a remote target's failures, to hold its breaker against."""
        if name in self.units:
            return
        if outcome not in BLAMED:
            if self.now >= self.blocked_until.get(name, 0.0):
                self.streaks[name] = 0
            return
        is_cut = outcome is Outcome.SILENT and flight.send.first_byte_s < self.table.bridge.first_byte_timeout_s
        if is_cut or self.now < self.blocked_until.get(name, 0.0):
            return
        self.streaks[name] = streak = self.streaks.get(name, 0) + 1
        if streak == FAILURES_IN_A_ROW:
            self.blocked_until[name] = self.now + FIRST_OPEN_S * (1 - JITTER) - 0.001

    def _poll(self, name: str, timeout_s: float) -> None:
        unit = self.units.get(name)
        if unit is None:
            verdict = Verdict.FAILING if name in self.hosts_down else Verdict.HEALTHY
            self._after(ANSWER_S, partial(self._polled, name, verdict, 0))
        elif unit.is_hung:
            self._after(timeout_s, partial(self._polled, name, Verdict.FAILING, unit.life))
        else:
            verdict = {"up": Verdict.HEALTHY, "loading": Verdict.LOADING}.get(unit.phase, Verdict.FAILING)
            self._after(ANSWER_S, partial(self._polled, name, verdict, unit.life))

    def _polled(self, name: str, verdict: Verdict, life: int) -> None:
        unit = self.units.get(name)
        self.tell(Polled(name, verdict))
        if unit is None:
            return
        unit.failing_polls = unit.failing_polls + 1 if verdict is Verdict.FAILING else 0
        if unit.failing_polls >= 3 and self._doubted.pop(name, False):
            for id in sorted(self.in_flight.get(name, ())):
                flight = self.askers[id].flight
                if flight is not None:
                    self._end(flight, Outcome.STALLED if flight.has_begun else Outcome.SILENT)

    # What happens.

    def _play(self, step: Step) -> None:
        match step:
            case Ask():
                id = f"r{len(self.askers)}"
                deadline_at = self.now + step.deadline_s
                self.askers[id] = Asker(step, deadline_at)
                asked = Asked(id, step.query, step.client, deadline_at, step.tokens, step.session, step.priority)
                self.tell(asked)
            case Leave(back):
                self._leave(back)
            case Process(what, instance):
                self._process(what, self.units[instance]) if instance in self.units else None
            case HostIs(what, host):
                self._host(what, host)
            case Operator(is_start, instance):
                if instance in self.units:
                    self._operate(self.units[instance], is_start=is_start)
            case _:
                self._change(step)

    def _change(self, step: Foreign | Profile | Card | Table) -> None:
        match step:
            case Foreign(card, mib):
                self.foreign[card] = mib
                self.tell(CardsSeen(tuple(sorted(self.foreign.items()))))
            case Profile(name, cards):
                self._cards_stand(name, dict(cards))
            case Card(card, state):
                self._cards_stand(self.profile, {card: state})
            case Table(number):
                self.table = self.scenario.tables[number % len(self.scenario.tables)]
                self._learn_units()
                self._drains()
                self.streaks.clear()
                self.blocked_until.clear()
                self.hosts_off.clear()  # a host that is reached otherwise is another one
                self.tell(TableReplaced(self.table))
                self.hosts_off = {name for name, host in self.core._hosts.hosts.items() if not host.is_enabled}

    def _cards_stand(self, profile: str, cards: dict[str, str]) -> None:
        self.profile = profile
        self.cards |= cards
        self._drains()
        closed = tuple(ClosedCard(card, "locked out") for card, state in self.cards.items() if state == "closed")
        ineligible = tuple(card for card, state in self.cards.items() if state != "open")
        self.tell(CardsStand(profile, closed, ineligible))

    def _operate(self, unit: Unit, *, is_start: bool) -> None:
        instance = unit.upstream.instance
        unit.is_stop_asked = not is_start
        if not is_start and unit.drain_from is None:
            unit.drain_from = self.now
        self.tell(StartAsked(instance) if is_start else StopAsked(instance))

    def _drains(self) -> None:
        """Note from when on an instance may be stopped for good reason: its table, profile or card has left it."""
        for name, unit in self.units.items():
            if self._is_active(name) and not self._is_on(name, "closed"):
                unit.drain_from = unit.drain_from if unit.is_stop_asked else None
            elif unit.drain_from is None:
                unit.drain_from = self.now

    def _leave(self, back: int) -> None:
        ids = list(self.askers)
        if back >= len(ids):
            return
        id = ids[-1 - back]
        asker = self.askers[id]
        if asker.end is None:
            asker.end = "left"
            if asker.flight is not None:
                asker.flight.is_over = True
                self.in_flight[asker.flight.send.target.name].discard(id)
                asker.flight = None
            self.tell(Left(id))

    def _process(self, what: str, unit: Unit) -> None:
        name = unit.upstream.instance
        match what:
            case "hang":
                unit.is_hung = unit.phase == "up"
            case "wake":
                unit.is_hung = False
            case "die" if unit.phase in ("up", "loading", "starting"):
                self._end_process(name)
                self.tell(UnitFailed(name, "signal 9", ("killed",)))
            case "stop" if unit.phase in ("up", "loading"):
                self._end_process(name)
                self.tell(UnitSeen(name, False))
            case "start" if unit.phase == "down" and self._upstream(name) is not None:
                unit.is_orderly = True
                self._run(unit, "up")
                self.tell(UnitSeen(name, True, unit.pid))
            case _:
                self._burden(what, unit)

    def _burden(self, what: str, unit: Unit) -> None:
        match what:
            case "leave" if unit.phase in ("up", "loading"):
                self._leave_orderly(unit.upstream.instance)
            case "replace" if unit.phase == "up" and self._upstream(unit.upstream.instance) is not None:
                self._replace(unit)
            case "cling" | "let go":
                unit.is_clinging = what == "cling"
            case "spoil" | "mend":
                unit.is_spoilt = what == "spoil"

    def _host(self, what: str, host: str) -> None:
        match what:
            case "down":
                self.hosts_down.add(host)
            case "up":
                self.hosts_down.discard(host)
            case _:
                known = host in self.core._hosts.hosts
                self.hosts_off = self.hosts_off - {host} if what == "on" or not known else self.hosts_off | {host}
                self.tell(Toggled(host, what == "on"))

    # What must hold.

    def _allocated(self, effect: Allocated) -> None:
        self.allocations[effect.change] += 1
        if effect.change is AllocationChange.CREATED:
            self._check(effect.allocation_id not in self.told_of, "an allocation is made twice")
            self._check(self.sent[effect.allocation_id] == effect.created_at, "an allocation is not of its request")
            self.lent.add(effect.allocation_id)
            self.told_of.add(effect.allocation_id)
        else:
            self._check(effect.allocation_id in self.lent, "an allocation ends that is not, or twice")
            self.lent.discard(effect.allocation_id)

    def _check_end(self) -> None:
        for id, asker in self.askers.items():
            self._check(asker.end is not None, f"{id} has no end")
        traffic = self.core._traffic
        self._check(not traffic.requests, "requests are remembered after their end")
        self._check(not any(traffic.lines.values()), "a line is not empty in the end")
        self._check(not traffic._queued_of, "somebody counts as waiting in the end")
        flights = [name for name, station in self.core._stations.items() if station.flights]
        self._check(not flights, f"{flights} count as busy in the end")
        counted = self.allocations
        created = counted[AllocationChange.CREATED] + len(self.scenario.leases)
        ended = sum(counted.values()) - counted[AllocationChange.CREATED]
        self._check(created == ended + len(self.lent), "allocations do not add up")
        adopted = {lease.allocation_id for lease in self.scenario.leases}
        self._check(self.lent <= adopted, f"{sorted(self.lent - adopted)} are lent for ever")
