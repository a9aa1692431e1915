"""Start, stop and restart units for the desk, and tell it how they are."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.ports import UnitControl
from kloros_infra.errors import UnitError
from kloros_infra.ir.routing import Upstream
from kloros_infra.ir.seen_unit import SeenUnit
from kloros_infra.router.events import Event, UnitFailed, UnitSeen, UnitStarted, UnitStopped

log = logging.getLogger(__name__)

LAST_LINES = 20
NO_ANSWER = "KI602"
"""The service manager could not be asked, as while D-Bus is away or no descriptor is left."""
DOWN = SeenUnit(is_up=False)


@dataclass(frozen=True, slots=True)
class UnitLimits:
    """How long a job of the service manager may take, and how often it is asked how units are.

    A unit that drains stops later, and so does what waits for its end before it starts: `drain_margin_s` after that.
    """

    start_s: float = 90.0
    stop_s: float = 60.0
    drain_margin_s: float = 15.0
    look_s: float = 5.0
    look_while_coming_s: float = 0.25
    mute_s: float = 10.0
    order_again_s: float = 0.5


class UnitKeeper:
    """One job at a time for each instance: the newest order replaces one that is under way."""

    def __init__(self, desk: Desk, units: UnitControl, limits: UnitLimits | None = None) -> None:
        self._desk = desk
        self._units = units
        self._limits = limits or UnitLimits()
        self._known: dict[str, Upstream] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._orders: Counter[str] = Counter()
        self._seen: dict[str, SeenUnit] = {}
        self._coming: set[str] = set()
        self._hurry = asyncio.Event()
        self._is_mute = False

    # Called by the desk.

    def start(self, instance: str) -> None:
        """Start an instance's unit."""
        self._order(instance, self._up(instance, self._units.start))

    def restart(self, instance: str) -> None:
        """Restart an instance's unit, unless somebody else is about to stop it, or has stopped or restarted it."""
        self._order(instance, self._again(instance))

    def stop(self, instance: str) -> None:
        """Stop an instance's unit."""
        self._order(instance, self._down(instance))

    def settled(self, instance: str) -> None:
        """Note that an instance is healthy: its unit need not be looked at all the time."""
        self._coming.discard(instance)

    # Called by the router.

    async def follow(self) -> None:
        """Look how units are for ever: often while one comes up, as it may end before it is ready."""
        while True:
            await self.look()
            self._hurry.clear()
            pause_s = self._limits.look_while_coming_s if self._coming else self._limits.look_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()

    async def look(self) -> None:
        """Ask how all units are, and tell what is new."""
        self._learn()
        orders = self._orders.copy()
        try:
            states = await self._units.states(tuple(upstream.unit for upstream in self._known.values()))
        except Exception as error:  # whatever a service manager may say: the next look may do better
            self._note_mute(error)
            return
        self._is_mute = False
        for instance, upstream in tuple(self._known.items()):
            # While a job runs, and until one has ended before we asked, the job's own end says more.
            if instance not in self._jobs and self._orders[instance] == orders[instance]:
                await self._take(instance, states.get(upstream.unit, DOWN))

    async def close(self) -> None:
        """Leave off; units stay as they are."""
        jobs = tuple(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    # Own steps.

    def _order(self, instance: str, job: Awaitable[Event]) -> None:
        former = self._jobs.get(instance)
        if former is not None:
            former.cancel()
        self._orders[instance] += 1
        self._jobs[instance] = asyncio.ensure_future(self._carry_out(instance, job))

    async def _carry_out(self, instance: str, job: Awaitable[Event]) -> None:
        try:
            event = await job
        except Exception:  # the instance would stay as it is for ever
            log.exception("the order for %s was not carried out", instance)
            self._coming.discard(instance)
            self._seen.pop(instance, None)
            event = UnitFailed(instance, f"the router failed on {self._unit(instance)}; its log has the traceback")
        if self._jobs.get(instance) is asyncio.current_task():
            del self._jobs[instance]
            self._orders[instance] += 1
            self._desk.tell(event)
            self._hurry.set()

    async def _up(self, instance: str, job: Callable[[str], Awaitable[None]]) -> Event:
        self._coming.add(instance)
        # What another profile has must have been drained before.
        self._learn()
        longest_s = max(map(self._drained_s, self._known), default=0.0)
        unit, limit_s = self._unit(instance), max(self._limits.start_s, longest_s)
        try:
            async with asyncio.timeout(limit_s):
                await self._order_patiently(job, unit)
        except UnitError as error:
            self._coming.discard(instance)
            return UnitFailed(instance, error.problem.detail, error.last_lines)
        except TimeoutError:
            self._coming.discard(instance)
            return UnitFailed(instance, f"{unit} did not start within {limit_s:g} s", await self._tail(unit))
        self._seen[instance] = SeenUnit(is_up=True)
        return UnitStarted(instance)

    async def _order_patiently(self, job: Callable[[str], Awaitable[None]], unit: str) -> None:
        """Give an order; one that nobody takes says nothing of the unit, and is given again for a while."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.mute_s
        while True:
            try:
                return await job(unit)
            except UnitError as error:
                if error.problem.code != NO_ANSWER or loop.time() >= until:
                    raise
                self._note_mute(error)
            await asyncio.sleep(self._limits.order_again_s)

    async def _again(self, instance: str) -> Event:
        unit, known = self._unit(instance), self._seen.get(instance, DOWN)
        try:
            state = (await self._units.states((unit,))).get(unit, DOWN)
        except UnitError:
            return await self._up(instance, self._units.restart)
        if state.is_up and not state.is_stopping and (known.pid == 0 or state.pid in (0, known.pid)):
            return await self._up(instance, self._units.restart)
        if state.has_failed:
            return await self._up(instance, self._units.restart)
        self._coming.add(instance)
        if state.is_up and not state.is_stopping:
            self._seen.pop(instance, None)  # the next look tells which process it is
            return UnitStarted(instance)
        self._seen[instance] = state
        return UnitSeen(instance, True, state.pid, True) if state.is_up else UnitStopped(instance)

    async def _down(self, instance: str) -> Event:
        self._coming.discard(instance)
        unit, limit_s = self._unit(instance), max(self._limits.stop_s, self._drained_s(instance))
        try:
            async with asyncio.timeout(limit_s):
                await self._units.stop(unit)
        except UnitError as error:
            return self._stays(instance, UnitFailed(instance, error.problem.detail, error.last_lines))
        except TimeoutError:
            reason = f"{unit} did not stop within {limit_s:g} s"
            return self._stays(instance, UnitFailed(instance, reason, await self._tail(unit)))
        self._seen[instance] = DOWN
        return UnitStopped(instance)

    def _stays(self, instance: str, failure: UnitFailed) -> UnitFailed:
        """Forget how a unit was that did not stop: how it is will be told when it is looked at."""
        log.warning("%s is not stopped: %s", instance, failure.reason)
        self._seen.pop(instance, None)
        return failure

    async def _take(self, instance: str, state: SeenUnit) -> None:
        before = self._seen.get(instance)
        if state == before:
            return
        self._seen[instance] = state
        if state.is_stopping:
            self._coming.add(instance)  # its end is to be known soon
        elif not state.is_up:
            self._coming.discard(instance)
        if before is not None and _has_crashed(before, state):
            unit = self._unit(instance)
            self._desk.tell(UnitFailed(instance, f"{unit} has ended by itself", await self._tail(unit)))
        elif before is None or before.is_up or state.is_up:
            self._desk.tell(UnitSeen(instance, state.is_up, state.pid, state.is_stopping))

    async def _tail(self, unit: str) -> tuple[str, ...]:
        try:
            return await self._units.log_tail(unit, LAST_LINES)
        except UnitError:
            return ()

    def _unit(self, instance: str) -> str:
        """Name an instance's unit; one that has left the table is still known."""
        if instance not in self._known:
            self._learn()
        known = self._known.get(instance)
        return f"llama@{instance}.service" if known is None else known.unit

    def _drained_s(self, instance: str) -> float:
        """Say how long an instance may take to stop at least."""
        known = self._known.get(instance)
        return 0.0 if known is None else known.drain_s + self._limits.drain_margin_s

    def _learn(self) -> None:
        self._known |= {
            upstream.instance: upstream for model in self._desk.table.models for upstream in model.upstreams
        }

    def _note_mute(self, error: Exception) -> None:
        if not self._is_mute:
            self._is_mute = True
            log.warning("%s", error, exc_info=None if isinstance(error, UnitError) else error)


def _has_crashed(before: SeenUnit, state: SeenUnit) -> bool:
    """Say whether a unit has ended by itself; what takes too long to stop is killed, and has failed as well."""
    return before.is_up and state.has_failed and (state.comes_back or not before.is_stopping)
