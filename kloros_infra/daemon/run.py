"""The resident router: load the table, serve both faces, follow the files, drain at the end.

One TaskGroup holds everything that runs for ever. The bus may be absent, a table may be broken on
reload, upstreams may come and go: none of that ends the router. A table that is broken at start does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass

from kloros_infra.daemon.bus_face import BusFace
from kloros_infra.daemon.directory import RoutingDirectory
from kloros_infra.daemon.files import read_profile, read_table
from kloros_infra.daemon.ports import Bus, Clock, Directory, Upstreams, WatchedText
from kloros_infra.daemon.request_problems import restart_needed
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.messages import REQUEST_TOPIC
from kloros_infra.ir.routing import RoutedBus, RoutingTable, Upstream

log = logging.getLogger(__name__)

FILE_POLL_S = 0.25
HEALTH_TICK_S = 0.1
HEALTH_TIMEOUT_S = 1.0
HEALTH_REPORT_S = 30.0
HEARTBEAT_S = 10.0
DRAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Outside:
    """What the router needs of the world; `cli.wiring` fills it in.

    `connect_bus` gets addresses and topics; `serve_http` listens while its context is open and
    finishes what it has on the way out.
    """

    watch: Callable[[str], WatchedText]
    connect_bus: Callable[[RoutedBus, Sequence[str]], AbstractAsyncContextManager[Bus]]
    serve_http: Callable[[Directory, str, Sequence[int]], AbstractAsyncContextManager[object]]
    upstreams: Upstreams
    clock: Clock


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
    router = _Router(routing_path, outside)
    await router.poll_due()
    table = router.directory.table
    async with outside.connect_bus(table.bus, (REQUEST_TOPIC,)) as bus, AsyncExitStack() as http:
        await http.enter_async_context(outside.serve_http(router.directory, table.bridge.host, table.bridge.ports))
        face = BusFace(bus, router.directory, outside.upstreams, outside.clock)
        async with asyncio.TaskGroup() as group:
            duties = (face.serve(), router.follow_files(), router.follow_health(), _report(face, router), _beat(face))
            running = [group.create_task(duty) for duty in duties]
            on_ready()
            await stop.wanted.wait()
            log.info("stopping: finishing what is in flight, at most %g s", DRAIN_S)
            await _drain(face, http, stop)
            for task in running:
                task.cancel()


async def _drain(face: BusFace, http: AsyncExitStack, stop: Stop) -> None:
    """Finish what is in flight, for DRAIN_S or until a second request to stop."""
    both = asyncio.gather(face.drain(DRAIN_S), http.aclose())
    urgent = asyncio.create_task(stop.urgent.wait())
    try:
        await asyncio.wait((both, urgent), timeout=DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
        for task in (both, urgent):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        await face.cut()


class _Router:
    """The directory, and what keeps it up to date."""

    def __init__(self, routing_path: str, outside: Outside) -> None:
        self._outside = outside
        self._routing_file = outside.watch(routing_path)
        self._routing_stamp = self._routing_file.stamp()
        table = read_table(self._routing_file)
        if isinstance(table, Diagnostic):
            raise ProblemsError([table])
        self._profile_file = outside.watch(table.profile_file)
        self._profile_stamp = self._profile_file.stamp()
        profile, problem = read_profile(self._profile_file, table, None)
        _warn(problem)
        self.directory = RoutingDirectory(table, profile=profile, clock=outside.clock)

    async def follow_health(self) -> None:
        """Poll each upstream when it is due."""
        while True:
            await self.poll_due()
            await asyncio.sleep(HEALTH_TICK_S)

    async def poll_due(self) -> None:
        """Poll all upstreams that are due, at once."""
        await self._poll(self.directory.due())

    async def follow_files(self) -> None:
        """Take up a new table or profile within FILE_POLL_S."""
        while True:
            await asyncio.sleep(FILE_POLL_S)
            await self._follow_table()
            if self._follow_profile():
                await self.poll_due()

    async def _follow_table(self) -> None:
        stamp = self._routing_file.stamp()
        if stamp == self._routing_stamp:
            return
        self._routing_stamp = stamp
        table = read_table(self._routing_file)
        if isinstance(table, Diagnostic):
            _warn(table)
            log.warning("the router goes on with the table it has")
            return
        self._compare_addresses(table)
        # Upstreams that are new are asked before any request can mean them: a reload refuses nobody.
        arriving = RoutingDirectory(table, profile=self.directory.profile, clock=self._outside.clock).due()
        known = {upstream for model in self.directory.table.models for upstream in model.upstreams}
        new = [upstream for upstream in arriving if upstream not in known]
        answers = await self._ask(new)
        self.directory.replace_table(table)
        self._take(new, answers)
        self._profile_file = self._outside.watch(table.profile_file)
        self._profile_stamp = None
        log.info("took up a new routing table: %d models", len(table.models))

    def _follow_profile(self) -> bool:
        """Say whether another profile is active now."""
        stamp = self._profile_file.stamp()
        if stamp == self._profile_stamp:
            return False
        self._profile_stamp = stamp
        current = self.directory.profile
        profile, problem = read_profile(self._profile_file, self.directory.table, current)
        _warn(problem)
        if profile == current:
            return False
        self.directory.set_profile(profile)
        log.info("profile %s is active, before it was %s", profile, current)
        return True

    def _compare_addresses(self, table: RoutingTable) -> None:
        if table.bus != self.directory.table.bus:
            _warn(restart_needed("bus addresses"))
        if table.bridge != self.directory.table.bridge:
            _warn(restart_needed("bridge addresses"))

    async def _poll(self, upstreams: Sequence[Upstream]) -> None:
        self._take(upstreams, await self._ask(upstreams))

    async def _ask(self, upstreams: Sequence[Upstream]) -> list[bool]:
        polls = (self._outside.upstreams.is_ready(upstream, timeout_s=HEALTH_TIMEOUT_S) for upstream in upstreams)
        return await asyncio.gather(*polls)

    def _take(self, upstreams: Sequence[Upstream], answers: Sequence[bool]) -> None:
        for upstream, is_healthy in zip(upstreams, answers, strict=True):
            self.directory.polled(upstream, is_healthy=is_healthy)


async def _report(face: BusFace, router: _Router) -> None:
    """Publish llm.health when it changes, and every HEALTH_REPORT_S."""
    while True:
        router.directory.changed.clear()
        face.report_health()
        with suppress(TimeoutError):
            async with asyncio.timeout(HEALTH_REPORT_S):
                await router.directory.changed.wait()


async def _beat(face: BusFace) -> None:
    while True:
        face.beat()
        await asyncio.sleep(HEARTBEAT_S)


def _warn(problem: Diagnostic | None) -> None:
    if problem:
        log.warning("%s %s: %s %s", problem.code, problem.summary, problem.detail, problem.hint)
