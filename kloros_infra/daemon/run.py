"""The resident router: load the table, serve both faces, follow the files, drain at the end.

One TaskGroup holds everything that runs for ever. The bus may be absent, a table may be broken on
reload, units and hosts may come and go: none of that ends the router. A table that is broken at start does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Protocol

from kloros_infra.daemon.answer_log import AnswerLog
from kloros_infra.daemon.bus_service import BusService, topics
from kloros_infra.daemon.card_watch import CardWatch
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.files import read_table
from kloros_infra.daemon.following import FILE_POLL_S, Following, warn
from kloros_infra.daemon.hands import DeskHands
from kloros_infra.daemon.lease_log import LeaseLog
from kloros_infra.daemon.ports import (
    Bus,
    CardMemory,
    Clock,
    Direct,
    HealthChecks,
    Journal,
    UnitControl,
    Upstreams,
    WatchedText,
)
from kloros_infra.daemon.request_problems import OTHER_VERSION
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.routing import RoutedBus, RoutingTable
from kloros_infra.router.core import Core

log = logging.getLogger(__name__)

DRAIN_S = 30.0


class Targets(Upstreams, HealthChecks, Protocol):
    """Calls targets and asks for their health (daemon.upstream.UpstreamPool)."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What the router needs of the world; `cli.wiring` fills it in.

    `connect_bus` gets addresses and topics; `serve_http` listens while its context is open and
    finishes what it has on the way out. Without `units` the router starts and stops nothing.
    """

    watch: Callable[[str], WatchedText]
    connect_bus: Callable[[RoutedBus, Sequence[str]], AbstractAsyncContextManager[Bus]]
    serve_http: Callable[[Desk, str, Sequence[int]], AbstractAsyncContextManager[object]]
    upstreams: Targets
    clock: Clock
    units: UnitControl | None = None
    cards: CardMemory | None = None
    open_journal: Callable[[str], Journal] | None = None
    serve_control: Callable[[Desk, str], AbstractAsyncContextManager[object]] | None = None
    open_direct: Callable[[str], AbstractAsyncContextManager[Direct]] | None = None


class Stop:
    """A wish to end: the first asks for a clean end, the second for an end at once."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.urgent = asyncio.Event()

    def request(self) -> None:
        """Ask to end."""
        (self.urgent if self.wanted.is_set() else self.wanted).set()

    def on_signals(self) -> None:
        """Let SIGTERM and SIGINT ask."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.request)


def _nothing() -> None: ...


async def run_router(
    routing_path: str, outside: Outside, *, stop: Stop, on_ready: Callable[[], None] = _nothing
) -> None:
    """Serve until asked to stop; raise ProblemsError (KI813) when there is no table to start with."""
    await _wait_for_our_version(outside.watch(routing_path), stop)
    if stop.wanted.is_set():
        return
    router = _Router(routing_path, outside)
    desk, table = router.desk, router.desk.table
    try:
        async with (
            outside.connect_bus(table.bus, topics(table.bus)) as bus,
            AsyncExitStack() as lasting,
            AsyncExitStack() as http,
        ):
            direct = await _open_direct(table, outside, lasting)
            await _open_http(desk, outside, http)
            # What is another router's is left alone: only whoever has the addresses acts.
            router.leases.begin()
            await router.hands.open()
            service = BusService(bus, desk, outside.upstreams, outside.clock, direct=direct, answers=router.answers)
            router.tell_of_changes(service)
            service.open()
            async with asyncio.TaskGroup() as group:
                duties = (router.following.follow(), router.hands.follow(), service.follow())
                running = [group.create_task(duty) for duty in duties]
                on_ready()
                await stop.wanted.wait()
                service.refuse()
                log.info("stopping: finishing what is in flight, at most %g s", DRAIN_S)
                await _drain(service, http, stop)
                for task in running:
                    task.cancel()
    finally:
        desk.close()
        await router.hands.close()


async def _open_direct(table: RoutingTable, outside: Outside, lasting: AsyncExitStack) -> Direct | None:
    """Open the endpoint that clients ask directly, where there is to be one."""
    if outside.open_direct is None or table.bus.direct is None:
        return None
    return await lasting.enter_async_context(outside.open_direct(table.bus.direct))


async def _open_http(desk: Desk, outside: Outside, http: AsyncExitStack) -> None:
    """Listen for clients, and for operators."""
    table = desk.table
    await http.enter_async_context(outside.serve_http(desk, table.bridge.host, table.bridge.ports))
    if outside.serve_control is not None and table.control_socket is not None:
        await http.enter_async_context(outside.serve_control(desk, table.control_socket))


async def _wait_for_our_version(file: WatchedText, stop: Stop) -> None:
    """Wait while the table is of another version, as it is between an upgrade and the next apply.

    Whoever ends instead is started again and again by his service manager, which then gives up.
    """
    told = None
    while not stop.wanted.is_set():
        table = read_table(file)
        if not isinstance(table, Diagnostic) or table.code != OTHER_VERSION:
            return
        if table != told:
            warn(told := table)
        with suppress(TimeoutError):
            async with asyncio.timeout(FILE_POLL_S):
                await stop.wanted.wait()


async def _drain(service: BusService, http: AsyncExitStack, stop: Stop) -> None:
    """Finish what is in flight, for DRAIN_S or until a second request to stop."""
    both = asyncio.gather(service.drain(DRAIN_S), http.aclose())
    urgent = asyncio.create_task(stop.urgent.wait())
    try:
        await asyncio.wait((both, urgent), timeout=DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
        for task in (both, urgent):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        await service.cut()


class _Router:
    """The desk, and what keeps it up to date."""

    def __init__(self, routing_path: str, outside: Outside) -> None:
        self._outside = outside
        clock = outside.clock
        self.following = following = Following(routing_path, outside.watch, clock)
        table = following.table
        self.leases = leases = LeaseLog(self._journal(table.leases_file), clock)
        answers = self._journal(table.answers_file)
        self.answers = None if answers is None else AnswerLog(answers, clock)
        seed, adopted = int(clock.epoch_s()), leases.adopt()
        core = Core(table, profile=following.profile, now=clock.now(), seed=seed, leases=adopted)
        self.desk = Desk(core, clock)
        following.attach(self.desk)
        self.hands = DeskHands(self.desk, outside.upstreams, leases, units=outside.units)
        if outside.units is not None and outside.cards is not None:
            self.hands.watch_cards(CardWatch(self.desk, outside.units, outside.cards))

    def tell_of_changes(self, service: BusService) -> None:
        """Have allocations, and what is to be said aloud, published."""
        self.leases.listener = service.reports.report_allocation
        self.hands.announcer = service.reports.announce

    def _journal(self, path: str | None) -> Journal | None:
        open_journal = self._outside.open_journal
        return open_journal(path) if open_journal is not None and path else None
