"""systemd, asked over D-Bus; org.freedesktop.systemd1(5) describes every call used here."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Message, Properties, message_bus, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from kloros_infra.adapters.service_problems import (
    LOG_LINES,
    job_not_finished,
    no_answer,
    refused,
    unit_failed,
    unit_not_found,
    with_last_lines,
)
from kloros_infra.errors import KlorosError, StepFailedError, UnreachableError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState, UnitState

BUS_NAME = "org.freedesktop.systemd1"
MANAGER_INTERFACE = "org.freedesktop.systemd1.Manager"
UNIT_INTERFACE = "org.freedesktop.systemd1.Unit"
SERVICE_INTERFACE = "org.freedesktop.systemd1.Service"
MANAGER = DBusAddress("/org/freedesktop/systemd1", BUS_NAME, MANAGER_INTERFACE)
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
# A unit leaves the inactive state when it starts, and enters it when it has ended.
WAYS = ("Exit", "Enter")
LOOKS = 3
LOCAL_FOLDERS = ("/etc/", "/run/")
ANSWER_S = 30.0
RELOAD_S = 180.0
"""systemd answers when generators have run and all files are read; systemctl waits longer for this, too."""
JOURNAL_S = 20.0
AT_BOOT = (
    ("systemd-sysusers", Path("/") / Layout().sysusers),
    ("systemd-tmpfiles", "--create", Path("/") / Layout().tmpfiles),
)
"""What makes, of an installation without root folder, the users of its units and the folders that people write to."""


def is_available() -> bool:
    """Say whether systemd is the service manager of this machine; sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


class Systemd:
    """The system's service manager; a connection for each call, so a restarted bus is no trouble."""

    name = "systemd"

    def __init__(self, *, job_timeout_s: float = 900.0) -> None:
        self._job_timeout_s = job_timeout_s

    def reload(self) -> None:
        """Have users and folders made and all unit files read again; returns when that is done.

        Units make up their users where there are none (DynamicUser=). D-Bus knows nothing of these without
        nss-systemd(8), and the router has to speak to it; sysusers.d(5) and tmpfiles.d(5) are read at boot alone.
        """
        for command in AT_BOOT:
            if Path(command[-1]).exists():
                subprocess.run(command, capture_output=True, check=False, timeout=ANSWER_S)
        with conversation("") as bus:
            bus.reload()

    def start(self, unit: str) -> None:
        """Start a unit, forgiving its earlier failures: a start limit that was hit would refuse it."""
        self._run_job("StartUnit", unit)

    def enqueue_start(self, unit: str) -> None:
        """Queue a start and return at once: for a unit's own process, whose end its dependents wait for."""
        with conversation(unit) as bus:
            bus.call("StartUnit", "ss", unit, "replace")

    def restart(self, unit: str) -> None:
        """Stop a unit and start it by its loaded definition."""
        self._run_job("RestartUnit", unit)

    def stop(self, unit: str) -> None:
        """Stop a unit; nothing is to do for one that systemd does not know."""
        try:
            self._run_job("StopUnit", unit)
        except StepFailedError as error:
            if [problem.code for problem in error.problems] != ["KI601"]:
                raise

    def reset_failed(self, units: Collection[str]) -> None:
        """Forget failures and start limits."""
        with conversation("") as bus:
            for unit in sorted(units):
                bus.forgive(unit)

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        """Report on units; one that systemd does not know is inactive."""
        if not units:
            return {}
        with conversation("") as bus:
            rows = bus.call("ListUnitsByNames", "as", sorted(units))[0]
            return {row[0]: bus.state(row) for row in rows}

    def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        """Read the last lines of a unit's journal, messages of systemd about it included."""
        # What a unit wrote may still be on its way to the journal when its end is already known.
        run_journalctl("--sync")
        return run_journalctl("-q", "-u", unit, "-n", str(lines), "-o", "cat", "--no-pager")

    def _run_job(self, method: str, unit: str) -> None:
        with conversation(unit) as bus:
            if method != "StopUnit":
                bus.forgive(unit)
            result = bus.job(method, unit, self._job_timeout_s)
        if result in ("done", "skipped"):
            return
        if result in ("canceled", "timed out here"):
            reason = "was overtaken by another job" if result == "canceled" else f"ran for {self._job_timeout_s:.0f} s"
            raise StepFailedError((job_not_finished(unit, reason),))
        state = self.states((unit,)).get(unit, UnitState(unit, ActiveState.FAILED))
        shown = state.result if state.result != "success" else result
        problem = unit_failed(unit, result=shown, exit_status=state.exit_status)
        raise StepFailedError((with_last_lines(problem, self.log_tail(unit, LOG_LINES)),))


class Conversation:
    """One connection to systemd; raises DBusErrorResponse for what it refuses."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection

    def call(self, method: str, signature: str = "", *arguments: object) -> tuple[Any, ...]:
        """Call a method of the manager and give what it returns."""
        return self._exchange(new_method_call(MANAGER, method, signature or None, arguments))

    def reload(self) -> None:
        """Have all unit files read again."""
        self._exchange(new_method_call(MANAGER, "Reload"), RELOAD_S)

    def forgive(self, unit: str) -> None:
        """Forget failures and start limits; a unit that is not loaded has none."""
        try:
            self.call("ResetFailedUnit", "s", unit)
        except DBusErrorResponse as error:
            if error.name != NO_SUCH_UNIT:
                raise

    def job(self, method: str, unit: str, timeout_s: float) -> str:
        """Queue a job and wait for its end; give systemd's word for the outcome."""
        deadline = time.monotonic() + timeout_s
        # Signals carry the sender's unique name: by it they are told from those that anybody else may send.
        owner = self._exchange(message_bus.GetNameOwner(BUS_NAME))[0]
        rule = MatchRule(type="signal", sender=owner, interface=MANAGER_INTERFACE, member="JobRemoved")
        # A job may be over before its number is known here: be listening first.
        self.call("Subscribe")
        self._exchange(message_bus.AddMatch(rule))
        with self._connection.filter(rule, queue=deque()) as removed:
            path = self.call(method, "ss", unit, "replace")[0]
            while True:
                try:
                    signal = self._connection.recv_until_filtered(removed, timeout=deadline - time.monotonic())
                except TimeoutError:
                    return "timed out here"
                _, removed_path, _, result = signal.body
                if removed_path == path:
                    return str(result)

    def state(self, row: tuple[Any, ...]) -> UnitState:
        """Turn a row of ListUnitsByNames into a state; a unit that changed while it was asked about is asked again."""
        for _ in range(LOOKS):
            state = self._state(row)
            if self._property(row[6], UNIT_INTERFACE, "ActiveState") == state.active:
                break
            row = self.call("ListUnitsByNames", "as", [state.unit])[0][0]
        return state

    def _state(self, row: tuple[Any, ...]) -> UnitState:
        name, _, load, active, sub, _, path, *_ = row
        state = UnitState(name, ActiveState(active), sub=sub, is_masked=load == "masked")
        if load not in ("loaded", "masked"):
            return state
        state = replace(
            state,
            needs_reload=bool(self._property(path, UNIT_INTERFACE, "NeedDaemonReload")),
            drop_ins=tuple(one for one in self._property(path, UNIT_INTERFACE, "DropInPaths") if _is_local(one)),
            has_ended=state.active is ActiveState.INACTIVE and self._has_ended(path),
        )
        if not name.endswith(".service"):
            return state
        return replace(
            state,
            main_pid=int(self._property(path, SERVICE_INTERFACE, "MainPID")),
            result=str(self._property(path, SERVICE_INTERFACE, "Result")),
            exit_status=int(self._property(path, SERVICE_INTERFACE, "ExecMainStatus")),
        )

    def _has_ended(self, path: str) -> bool:
        """Say whether an inactive unit was up since the boot; systemd forgets it with a unit that nothing refers to."""
        left, entered = (self._property(path, UNIT_INTERFACE, f"Inactive{way}TimestampMonotonic") for way in WAYS)
        return 0 < int(left) < int(entered)

    def _property(self, path: str, interface: str, name: str) -> Any:
        address = DBusAddress(path, BUS_NAME, interface)
        return self._exchange(Properties(address).get(name))[0][1]

    def _exchange(self, message: Message, timeout_s: float = ANSWER_S) -> tuple[Any, ...]:
        body: tuple[Any, ...] = unwrap_msg(self._connection.send_and_get_reply(message, timeout=timeout_s))
        return body


def _is_local(path: str) -> bool:
    """Say whether a drop-in is an administrator's, and not the distribution's for all units."""
    return path.startswith(LOCAL_FOLDERS)


def run_journalctl(*arguments: str) -> tuple[str, ...]:
    """Run journalctl; no lines when it cannot: they only explain a problem that is reported anyhow."""
    command = ("journalctl", *arguments)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=JOURNAL_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(done.stdout.decode(errors="replace").splitlines())


@contextmanager
def conversation(unit: str) -> Iterator[Conversation]:
    """Talk to systemd; what goes wrong comes out as a KlorosError about `unit`."""
    hint = "systemd must be process 1 here; otherwise use --root DIR, which runs the embedded supervisor."
    try:
        connection = open_dbus_connection(bus="SYSTEM")
    except (OSError, AuthenticationError) as error:
        raise UnreachableError((no_answer("systemd", f"no connection to the system bus ({error})", hint),)) from error
    with connection:
        try:
            yield Conversation(connection)
        except DBusErrorResponse as error:
            raise translated(error, unit) from error
        except (OSError, EOFError) as error:
            raise UnreachableError((no_answer("systemd", f"the system bus was lost ({error})", hint),)) from error


def translated(error: DBusErrorResponse, unit: str) -> KlorosError:
    """Say in our words what systemd refused."""
    text = " ".join(str(part) for part in error.data)
    if error.name == NO_SUCH_UNIT:
        return StepFailedError((unit_not_found(unit, text),))
    return StepFailedError((refused(unit, text or error.name),))
