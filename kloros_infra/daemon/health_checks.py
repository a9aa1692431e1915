"""Ask targets for their health when the desk wants it, and remote hosts whether they are switched on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.ports import HealthChecks
from kloros_infra.daemon.upstream_request import owner_of
from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.router.effects import Poll, Target
from kloros_infra.router.events import Doubted, Polled, Toggled, Verdict

FAILED_POLLS_LIMIT = 3
DOUBT_PAUSE_S = 0.4
TOGGLE_PERIOD_S = 10.0
TOGGLE_TIMEOUT_S = 1.0
"""What KLoROS's own client allows (`_check_remote_ollama`)."""


class Checker:
    """Tells the desk what targets say; one question at a time for each."""

    def __init__(self, desk: Desk, checks: HealthChecks, on_healthy: Callable[[str], None]) -> None:
        self._desk = desk
        self._checks = checks
        self._on_healthy = on_healthy
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._failures: Counter[str] = Counter()
        self._doubted_at: dict[str, float] = {}
        self._is_on: dict[str, bool] = {}
        checks.watch_silence(self._doubt)

    def poll(self, poll: Poll) -> None:
        """Ask a target; nothing where it is being asked already."""
        name = poll.target.name
        if name not in self._asking:
            self._asking[name] = asyncio.ensure_future(self._ask(poll))

    async def is_there(self, instance: str) -> bool:
        """Ask an instance of the table whether it runs, loading or ready."""
        target = next((one for one in self._instances() if one.name == instance), None)
        if target is None:
            return False
        return await self._checks.check(target, b"/health", timeout_s=1.0) is not Verdict.FAILING

    def _instances(self) -> Iterator[Target]:
        for model in self._desk.table.models:
            for upstream in model.upstreams:
                yield Target(upstream.instance, UpstreamKind.LLAMA_CPP, upstream.host, upstream.port)

    async def answered(self) -> None:
        """Wait until nobody is being asked."""
        while self._asking:
            await asyncio.wait(tuple(self._asking.values()))

    async def follow_toggles(self) -> None:
        """Ask for ever whether remote hosts are switched on."""
        while True:
            await self.look_at_toggles()
            await asyncio.sleep(TOGGLE_PERIOD_S)

    async def look_at_toggles(self) -> None:
        """Ask all toggles, and tell what is new; a host counts as switched on until it is known."""
        toggles = {host.name: host.toggle for host in self._desk.table.hosts if host.toggle is not None}
        asked = (self._checks.is_switched_on(url, timeout_s=TOGGLE_TIMEOUT_S) for url in toggles.values())
        for name, is_on in zip(toggles, await asyncio.gather(*asked), strict=True):
            if self._is_on.get(name, True) is not is_on:
                self._desk.tell(Toggled(name, is_on))
            self._is_on[name] = is_on

    async def close(self) -> None:
        """Ask no more."""
        asking = tuple(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, poll: Poll) -> None:
        name = poll.target.name
        verdict = await self._checks.check(poll.target, poll.path.encode(), timeout_s=poll.timeout_s)
        # From here on it may be asked again: the desk's answer to this may be that.
        del self._asking[name]
        self._failures[name] = self._failures[name] + 1 if verdict is Verdict.FAILING else 0
        if verdict is Verdict.HEALTHY:
            self._on_healthy(name)
        self._desk.tell(Polled(name, verdict))
        if self._failures[name] >= FAILED_POLLS_LIMIT:
            self._checks.give_up(name)

    def _doubt(self, target: Target) -> None:
        now, owner = self._desk.now(), owner_of(target.name)
        if owner in self._asking or now - self._doubted_at.get(owner, -DOUBT_PAUSE_S) < DOUBT_PAUSE_S:
            return
        self._doubted_at[owner] = now
        self._desk.tell(Doubted(target.name))
