"""The simulated units: a service manager's jobs, processes that load, and the memory that they hold."""

from __future__ import annotations

from functools import partial

from kloros_infra.ir.routing import Upstream
from kloros_infra.router.events import Outcome, UnitFailed, UnitSeen, UnitStarted, UnitStopped
from tests.unit.router.simulated_world import Flight, Unit, World

JOB_S = 0.02
STOP_S = 0.03
LEAVE_S = 0.8


class Units(World):
    """Starts, stops and breaks them, and holds each order against what must always be so."""

    def _start(self, instance: str) -> None:
        unit = self.units[instance]
        upstream = self._upstream(instance)
        self._check(upstream is not None, f"{instance} is started, and is in no table")
        assert upstream is not None
        self._check(self._is_active(instance), f"{instance} of another profile is started")
        is_closed = any(self.cards.get(share.card) == "closed" for share in upstream.shares)
        self._check(not is_closed, f"{instance} is started on a closed card")
        self._check_room(upstream)
        self._launch(unit)

    def _check_room(self, upstream: Upstream) -> None:
        for share in upstream.shares:
            held = sum(u.holds.get(share.card, 0) for n, u in self.units.items() if n != upstream.instance)
            capacity = next((c.mib for c in self.table.capacities if c.card == share.card), None)
            if capacity is not None:
                free = capacity - self.foreign.get(share.card, 0)
                self._check(held + share.mib <= free, f"{upstream.instance}: {held}+{share.mib} of {free} MiB")
        mine = next(model for model in self.table.models if upstream in model.upstreams)
        rivals = {u.instance for u in mine.upstreams} - {upstream.instance, *upstream.beside}
        same = sorted(rivals)
        beside = [n for n in same if self.units[n].phase != "down"]
        self._check(not beside, f"{upstream.instance} starts beside {beside} of its model")
        groups = {u.instance: m.group for m in self.table.models for u in m.upstreams}
        group = groups.get(upstream.instance)
        if group is not None:
            may = (upstream.instance, *upstream.beside)
            others = [n for n, u in self.units.items() if u.phase != "down" and n not in may]
            self._check(all(groups.get(n) != group for n in others), f"{upstream.instance} starts beside its group")

    def _launch(self, unit: Unit) -> None:
        upstream = self._upstream(unit.upstream.instance)
        if upstream is not None:
            unit.upstream = upstream
        name = unit.upstream.instance
        unit.is_orderly = True
        self._run(unit, "starting")
        life = unit.life
        if unit.is_spoilt:
            self._after(JOB_S + 0.1, partial(self._fail_load, name, life))
        else:
            self._after(JOB_S, partial(self._job_done, name, life))
            self._after(unit.upstream.load_s, partial(self._loaded, name, life))

    def _run(self, unit: Unit, phase: str) -> None:
        self._pids += 1
        unit.pid, unit.phase, unit.is_hung = self._pids, phase, False
        unit.life += 1
        unit.failing_polls = 0
        unit.drain_from, unit.is_stop_asked, unit.is_known_to_leave = None, False, False
        unit.holds = {share.card: share.mib for share in unit.upstream.shares}

    def _job_done(self, name: str, life: int) -> None:
        unit = self.units[name]
        if unit.life == life and unit.phase == "starting":
            unit.phase = "loading"
            self.tell(UnitStarted(name))

    def _loaded(self, name: str, life: int) -> None:
        unit = self.units[name]
        if unit.life == life and unit.phase in ("starting", "loading"):
            unit.phase = "up"

    def _fail_load(self, name: str, life: int) -> None:
        if self.units[name].life == life:
            self._end_process(name)
            self.tell(UnitFailed(name, "exit code 1", ("error loading model",)))

    def _stop(self, instance: str) -> None:
        unit = self.units[instance]
        if unit.phase == "down":
            unit.life += 1
            self._after(STOP_S, partial(self._stopped, instance, unit.life))
            return
        self._check(not unit.is_known_to_leave, f"{instance} is ordered to stop while somebody else stops it")
        flights = self.in_flight.get(instance, set())
        if flights:
            drain_s = min(unit.upstream.drain_s, (self._upstream(instance) or unit.upstream).drain_s)
            since = self.now if unit.drain_from is None else unit.drain_from
            if not self._is_active(instance):
                # It may stay for long, and has its time from when it is given no more.
                since = max(self._flight(id).sent_at for id in flights)
            for id in flights:
                self.sent[self._flight(id).send.allocation_id] = float("inf")  # it is taken back, told of or not
            self._check(self.now >= since + drain_s - 1e-6, f"{instance} is stopped while it serves {sorted(flights)}")
        upstream = self._upstream(instance)
        if upstream is not None and upstream.is_pinned and self._is_active(instance):
            self._check(unit.drain_from is not None, f"{instance} is pinned and is stopped")
        unit.is_orderly = False
        if unit.is_clinging:
            self._after(STOP_S, partial(self._stays, instance, unit.life))
            return
        unit.life += 1
        unit.phase = "stopping"
        self._break_flights(instance)
        self._after(STOP_S, partial(self._stopped, instance, unit.life))

    def _flight(self, id: str) -> Flight:
        flight = self.askers[id].flight
        assert flight is not None, f"{id} is in flight, and is not"
        return flight

    def _stays(self, name: str, life: int) -> None:
        """Tell that it did not stop, and then how it is."""
        if self.units[name].life == life:
            self.units[name].is_orderly = True
            self.tell(UnitFailed(name, "it did not stop"))
            self._after(STOP_S, partial(self._seen_still, name, life))

    def _seen_still(self, name: str, life: int) -> None:
        if self.units[name].life == life:
            self._seen(name)

    def _restart(self, name: str) -> None:
        """Kill what does not answer and start it, unless somebody is stopping it, or has stopped it."""
        unit = self.units[name]
        if unit.phase == "leaving":
            self._after(STOP_S, partial(self._seen_still, name, unit.life))
        elif unit.phase == "down":
            self._after(STOP_S, partial(self._stopped, name, unit.life))
        else:
            self._end_process(name)
            self._launch(unit)

    def _leave_orderly(self, name: str) -> None:
        """Have somebody else stop it: it finishes what it has, and takes no more."""
        unit = self.units[name]
        unit.phase, unit.is_hung = "leaving", False
        unit.life += 1
        self._after(LEAVE_S, partial(self._has_left, name, unit.life))
        self._after(STOP_S, partial(self._seen_still, name, unit.life))

    def _has_left(self, name: str, life: int) -> None:
        if self.units[name].life == life:
            self._end_process(name)
            self._seen(name)

    def _replace(self, unit: Unit) -> None:
        """Have somebody else restart it, as apply does."""
        name = unit.upstream.instance
        self._end_process(name)
        unit.upstream = self._upstream(name) or unit.upstream
        self._run(unit, "up")
        self.tell(UnitSeen(name, True, unit.pid))

    def _stopped(self, name: str, life: int) -> None:
        unit = self.units[name]
        if unit.life == life:
            self._end_process(name)
            self.tell(UnitStopped(name))

    def _end_process(self, name: str) -> None:
        unit = self.units[name]
        unit.phase, unit.is_hung, unit.holds, unit.pid = "down", False, {}, 0
        unit.life += 1
        self._break_flights(name)

    def _break_flights(self, name: str) -> None:
        for id in sorted(self.in_flight.get(name, ())):
            flight = self.askers[id].flight
            if flight is not None:
                outcome = Outcome.BROKEN if flight.has_begun else Outcome.UNREACHED
                self._after(0.0, partial(self._end, flight, outcome))

    def _seen(self, name: str) -> None:
        unit = self.units[name]
        unit.is_known_to_leave = unit.phase == "leaving"
        self.tell(UnitSeen(name, unit.phase != "down", unit.pid, unit.phase in ("leaving", "stopping")))

    def _upstream(self, instance: str) -> Upstream | None:
        found = (u for model in self.table.models for u in model.upstreams if u.instance == instance)
        return next(found, None)

    def _is_active(self, instance: str) -> bool:
        """Say whether the profile has an instance serve; profiles may share it."""
        upstreams = (u for model in self.table.models for u in model.upstreams)
        return any(u.instance == instance and u.profile == self.profile for u in upstreams)

    def _is_on(self, instance: str, *states: str) -> bool:
        """Say whether a card of an instance stands so."""
        return any(self.cards.get(share.card) in states for share in self.units[instance].upstream.shares)

    def _learn_units(self) -> None:
        for model in self.table.models:
            for upstream in model.upstreams:
                unit = self.units.get(upstream.instance)
                if unit is None:
                    self.units[upstream.instance] = Unit(upstream)
                elif unit.phase == "down":
                    unit.upstream = upstream
