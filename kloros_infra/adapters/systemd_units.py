"""Starts and stops units for the router through systemd, on its loop; org.freedesktop.systemd1(5).

The router is not root: systemd asks polkit whether it may, and polkit the rule that compile writes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Message, Properties, message_bus, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.io.asyncio import DBusRouter, open_dbus_router
from jeepney.io.common import RouterClosed
from jeepney.wrappers import unwrap_msg

from kloros_infra.adapters.service_problems import (
    LOG_LINES,
    job_not_finished,
    no_answer,
    not_allowed,
    refused,
    unit_failed,
    unit_not_found,
)
from kloros_infra.adapters.systemd import (
    ANSWER_S,
    BUS_NAME,
    MANAGER,
    MANAGER_INTERFACE,
    NO_SUCH_UNIT,
    SERVICE_INTERFACE,
    run_journalctl,
)
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import UnitError
from kloros_infra.ir.observed import ActiveState
from kloros_infra.ir.seen_unit import SeenUnit, seen_unit

POLKIT = "org.freedesktop.PolicyKit1"
# sd-bus answers the first where polkit says no or cannot be asked, the second where somebody's password would do.
DENIALS = ("org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
LOST = (OSError, EOFError, RouterClosed, AuthenticationError)


class SystemdUnits:
    """Implements `daemon.ports.UnitControl`; a connection for each call, so a restarted bus is no trouble."""

    def __init__(self, *, job_timeout_s: float = 300.0) -> None:
        self._job_timeout_s = job_timeout_s

    async def start(self, unit: str) -> None:
        """Start a unit, forgiving its earlier failures: a start limit that was hit would refuse it."""
        async with _conversation(unit) as bus:
            await bus.forgive(unit)
            await self._run_job(bus, "StartUnit", unit)

    async def stop(self, unit: str) -> None:
        """Stop a unit; nothing is to do for one that systemd does not know."""
        try:
            async with _conversation(unit) as bus:
                await self._run_job(bus, "StopUnit", unit)
        except UnitError as error:
            if error.problem.code != "KI601":
                raise

    async def restart(self, unit: str) -> None:
        """Kill a unit's process and start it again: what hangs would take SIGTERM for as long as it may."""
        async with _conversation(unit) as bus:
            await bus.kill(unit)
            await bus.forgive(unit)
            await self._run_job(bus, "RestartUnit", unit)

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        """Report on units; one that systemd does not know is left out."""
        if not units:
            return {}
        async with _conversation("") as bus:
            rows = (await bus.call("ListUnitsByNames", "as", sorted(units)))[0]
            return {row[0]: await bus.seen(row) for row in rows if row[2] != "not-found"}

    async def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        """Read the last lines of a unit's journal, messages of systemd about it included."""
        # What a unit wrote may still be on its way to the journal when its end is already known.
        await asyncio.to_thread(run_journalctl, "--sync")
        arguments = ("-q", "-u", unit, "-n", str(lines), "-o", "cat", "--no-pager")
        return await asyncio.to_thread(run_journalctl, *arguments)

    async def _run_job(self, bus: _Conversation, method: str, unit: str) -> None:
        try:
            async with asyncio.timeout(self._job_timeout_s):
                result = await bus.job(method, unit)
        except TimeoutError:
            raise UnitError(job_not_finished(unit, f"ran for {self._job_timeout_s:g} s")) from None
        if result in ("done", "skipped"):
            return
        if result == "canceled":
            raise UnitError(job_not_finished(unit, "was overtaken by another job"))
        shown, exit_status = await bus.ending(unit)
        problem = unit_failed(unit, result=result if shown == "success" else shown, exit_status=exit_status)
        raise UnitError(problem, last_lines=await self.log_tail(unit, LOG_LINES))


class _Conversation:
    """One connection to systemd; raises DBusErrorResponse for what it refuses."""

    def __init__(self, router: DBusRouter) -> None:
        self._router = router

    async def call(self, method: str, signature: str = "", *arguments: object) -> tuple[Any, ...]:
        """Call a method of the manager and give what it returns."""
        return await self._exchange(new_method_call(MANAGER, method, signature or None, arguments))

    async def forgive(self, unit: str) -> None:
        """Forget failures and start limits; a unit that is not loaded has none."""
        try:
            await self.call("ResetFailedUnit", "s", unit)
        except DBusErrorResponse as error:
            if error.name != NO_SUCH_UNIT:
                raise

    async def kill(self, unit: str) -> None:
        """Kill what a unit runs; where that is not allowed, or nothing runs, its stop has to do."""
        with suppress(DBusErrorResponse):
            await self.call("KillUnit", "ssi", unit, "all", int(signal.SIGKILL))

    async def job(self, method: str, unit: str) -> str:
        """Queue a job and wait for its end; give systemd's word for the outcome."""
        # Signals carry the sender's unique name: by it they are told from those that anybody else may send.
        owner = (await self._exchange(message_bus.GetNameOwner(BUS_NAME)))[0]
        rule = MatchRule(type="signal", sender=owner, interface=MANAGER_INTERFACE, member="JobRemoved")
        # A job may be over before its number is known here: be listening first.
        await self.call("Subscribe")
        await self._exchange(message_bus.AddMatch(rule))
        removed: asyncio.Queue[Message] = asyncio.Queue()
        with self._router.filter(rule, queue=removed):
            path = (await self.call(method, "ss", unit, "replace"))[0]
            while True:
                _, removed_path, _, result = (await removed.get()).body
                if removed_path == path:
                    return str(result)

    async def seen(self, row: tuple[Any, ...]) -> SeenUnit:
        """Turn a row of ListUnitsByNames into what is wanted of it."""
        active = ActiveState(row[3])
        if active in (ActiveState.INACTIVE, ActiveState.FAILED):
            return seen_unit(active, 0)
        return seen_unit(active, int(await self._property(row[6], "MainPID") or 0), sub=str(row[4]))

    async def ending(self, unit: str) -> tuple[str, int]:
        """Say how a unit's last run ended: systemd's word, and the exit status."""
        path = (await self.call("LoadUnit", "s", unit))[0]
        result, status = await self._property(path, "Result"), await self._property(path, "ExecMainStatus")
        return str(result or "success"), int(status or 0)

    async def has_polkit(self) -> bool:
        """Say whether polkit runs, or would be started."""
        names = (await self._exchange(message_bus.ListActivatableNames()))[0]
        return POLKIT in names

    async def _property(self, path: str, name: str) -> Any:
        """Read a property of a service; None where the unit has gone meanwhile."""
        address = DBusAddress(path, BUS_NAME, SERVICE_INTERFACE)
        try:
            return (await self._exchange(Properties(address).get(name)))[0][1]
        except DBusErrorResponse:
            return None

    async def _exchange(self, message: Message) -> tuple[Any, ...]:
        async with asyncio.timeout(ANSWER_S):
            body: tuple[Any, ...] = unwrap_msg(await self._router.send_and_get_reply(message))
        return body


@asynccontextmanager
async def _conversation(unit: str) -> AsyncIterator[_Conversation]:
    """Talk to systemd; what goes wrong comes out as a UnitError about `unit`."""
    try:
        async with open_dbus_router("SYSTEM") as router:
            bus = _Conversation(router)
            try:
                yield bus
            except DBusErrorResponse as error:
                raise UnitError(await _translated(error, unit, bus)) from error
    except LOST as error:
        # dbus.service runs with SYSTEMD_NSS_DYNAMIC_BYPASS=1: it cuts off whoever systemd made up for a run.
        hint = "See `systemctl status dbus`. If the router's user is not in /etc/passwd yet, run `systemd-sysusers`."
        raise UnitError(no_answer("systemd", f"the system bus cannot be asked ({error})", hint)) from error


async def _translated(error: DBusErrorResponse, unit: str, bus: _Conversation) -> Diagnostic:
    """Say in our words what systemd refused."""
    text = " ".join(str(part) for part in error.data)
    if error.name == NO_SUCH_UNIT:
        return unit_not_found(unit, text)
    if error.name in DENIALS:
        return not_allowed(unit, uid=os.geteuid(), has_polkit=await bus.has_polkit())
    return refused(unit, text or error.name)
