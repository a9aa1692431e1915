"""A service's life as a state machine: (spec, state, event, now) → (state, effects). No clock, no process.

    dead ─start→ start-pre → start → start-post → running ─exit→ final-sigkill → dead | failed | auto-restart
                                                     │                               exited (oneshot)
                                                     └stop→ stop-sigterm ─exit or timeout→ final-sigkill

The names of phases and results are systemd's, so that `status` reads the same under either manager. Whatever ends a
service, its whole process group is gone before the next start: `final-sigkill` lasts until that is so.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from kloros_infra.ir.observed import ActiveState
from kloros_infra.supervisor.service_spec import Restart, ServiceKind, ServiceSpec


class Phase(StrEnum):
    """systemd's sub-states of a service, as far as they occur here."""

    DEAD = "dead"
    START_PRE = "start-pre"
    START = "start"
    START_POST = "start-post"
    RUNNING = "running"
    EXITED = "exited"
    STOP_SIGTERM = "stop-sigterm"
    FINAL_SIGKILL = "final-sigkill"
    AUTO_RESTART = "auto-restart"
    FAILED = "failed"

    @property
    def active(self) -> ActiveState:
        """Give the coarse state, as systemd derives it."""
        return ACTIVE_STATES[self]

    @property
    def is_settled(self) -> bool:
        """Say whether a start or stop job is over in this phase."""
        return self in (Phase.DEAD, Phase.RUNNING, Phase.EXITED, Phase.AUTO_RESTART, Phase.FAILED)


ACTIVE_STATES = {
    Phase.DEAD: ActiveState.INACTIVE,
    Phase.START_PRE: ActiveState.ACTIVATING,
    Phase.START: ActiveState.ACTIVATING,
    Phase.START_POST: ActiveState.ACTIVATING,
    Phase.RUNNING: ActiveState.ACTIVE,
    Phase.EXITED: ActiveState.ACTIVE,
    Phase.STOP_SIGTERM: ActiveState.DEACTIVATING,
    Phase.FINAL_SIGKILL: ActiveState.DEACTIVATING,
    Phase.AUTO_RESTART: ActiveState.ACTIVATING,
    Phase.FAILED: ActiveState.FAILED,
}


class Result(StrEnum):
    """systemd's Result= of a service."""

    SUCCESS = "success"
    EXIT_CODE = "exit-code"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    START_LIMIT = "start-limit-hit"


class Role(StrEnum):
    """Which of a service's commands."""

    PRE = "ExecStartPre"
    MAIN = "ExecStart"
    POST = "ExecStartPost"


PHASE_OF = {Role.PRE: Phase.START_PRE, Role.MAIN: Phase.START, Role.POST: Phase.START_POST}
ROLE_OF = {phase: role for role, phase in PHASE_OF.items()}
# systemd.service(5), Restart=: a daemon that ends by one of these has ended cleanly.
CLEAN_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE})


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Where a service is in its life.

    `starts` are the moments of recent starts, for the start limit; `failures` counts automatic restarts in a row, for
    the back-off. `is_start_asked` means: once it is down, start it again.
    """

    phase: Phase = Phase.DEAD
    index: int = 0
    main_pid: int = 0
    control_pid: int = 0
    result: Result = Result.SUCCESS
    exit_status: int = 0
    deadline: float | None = None
    running_since: float | None = None
    starts: tuple[float, ...] = ()
    failures: int = 0
    is_stop_asked: bool = False
    is_start_asked: bool = False


@dataclass(frozen=True, slots=True)
class StartAsked:
    """Somebody wants it to run."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants it down."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The command that Spawn asked for runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The command that Spawn asked for could not be executed; the status is systemd's (203 = EXEC)."""

    exit_status: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A process ended; `code` is negative for a signal."""

    pid: int
    code: int


@dataclass(frozen=True, slots=True)
class GroupEmptied:
    """Nothing of the process group is left."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = StartAsked | StopAsked | Spawned | SpawnFailed | Exited | GroupEmptied | Tick


@dataclass(frozen=True, slots=True)
class Spawn:
    """Run a command in the service's process group; answer with Spawned or SpawnFailed."""

    role: Role
    index: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask it to end: SIGTERM, to whom KillMode= says."""


@dataclass(frozen=True, slots=True)
class EmptyGroup:
    """SIGKILL whatever is left of the process group; answer with GroupEmptied once nothing is."""


Effect = Spawn | Terminate | EmptyGroup
Step = tuple[ServiceState, tuple[Effect, ...]]


def step(spec: ServiceSpec, state: ServiceState, event: Event, *, now: float) -> Step:  # noqa: PLR0911 - one return for each event
    """Say what becomes of a service when something happens, and what is to be done."""
    match event:
        case StartAsked():
            return on_start_asked(spec, state, now)
        case StopAsked():
            return on_stop_asked(spec, state, now)
        case Spawned(pid):
            return on_spawned(spec, state, pid, now)
        case SpawnFailed(status):
            return on_spawn_failed(spec, state, status, now)
        case Exited():
            return on_exited(spec, state, event, now)
        case GroupEmptied():
            return on_group_emptied(spec, state, now)
        case Tick():
            return on_tick(spec, state, now)
        case _ as never:
            assert_never(never)


def on_start_asked(spec: ServiceSpec, state: ServiceState, now: float) -> Step:
    """Start it unless it is up; a start by hand forgives earlier failures, as `reset-failed` does."""
    if state.phase in (Phase.STOP_SIGTERM, Phase.FINAL_SIGKILL):
        return replace(state, is_start_asked=True), ()
    if state.phase in (Phase.DEAD, Phase.FAILED, Phase.AUTO_RESTART):
        return begin(spec, ServiceState(), now)
    return state, ()


def on_stop_asked(spec: ServiceSpec, state: ServiceState, now: float) -> Step:
    """Bring it down: politely while it runs, at once where nothing runs."""
    match state.phase:
        case Phase.DEAD | Phase.FAILED:
            return state, ()
        case Phase.AUTO_RESTART | Phase.EXITED:
            return replace(state, phase=Phase.DEAD, deadline=None), ()
        case Phase.STOP_SIGTERM | Phase.FINAL_SIGKILL:
            return replace(state, is_stop_asked=True, is_start_asked=False), ()
        case Phase.START_PRE | Phase.START | Phase.START_POST | Phase.RUNNING:
            return terminate(spec, replace(state, is_stop_asked=True), now)
        case _ as never:
            assert_never(never)


def on_spawned(spec: ServiceSpec, state: ServiceState, pid: int, now: float) -> Step:
    """Note the pid; a main process that need not end first lets the next command run at once."""
    if state.phase is not Phase.START:
        return replace(state, control_pid=pid), ()
    running = replace(state, main_pid=pid)
    return (running, ()) if spec.kind is ServiceKind.ONESHOT else advance(spec, running, Role.POST, 0, now=now)


def on_spawn_failed(spec: ServiceSpec, state: ServiceState, status: int, now: float) -> Step:
    """Go on without a command that could not be executed, where that is allowed."""
    if ROLE_OF[state.phase] is Role.MAIN and spec.kind is not ServiceKind.ONESHOT:
        return tear_down(replace(state, exit_status=status), main_result(spec, Result.EXIT_CODE))
    return on_command_ended(spec, state, Result.EXIT_CODE, status, now=now)


def on_exited(spec: ServiceSpec, state: ServiceState, event: Exited, now: float) -> Step:
    """Note the end of a process of this service."""
    if event.pid not in (state.main_pid, state.control_pid):
        return state, ()
    result, status = judge(event.code, spec, is_stop_asked=state.is_stop_asked)
    is_main = event.pid == state.main_pid
    left = replace(state, main_pid=0, exit_status=status) if is_main else replace(state, control_pid=0)
    match left.phase:
        case Phase.FINAL_SIGKILL:
            return left, ()
        case Phase.STOP_SIGTERM:
            # The end of a gate is not the end of the service while its main process runs.
            return (left, ()) if left.main_pid else tear_down(left, main_result(spec, result))
        case Phase.RUNNING | Phase.START_POST if is_main:
            return tear_down(left, main_result(spec, result))
        case _:
            return on_command_ended(spec, left, result, status, now=now)


def on_command_ended(spec: ServiceSpec, state: ServiceState, result: Result, status: int, *, now: float) -> Step:
    """Go on after a command that had to end first, or give up where it failed."""
    role = ROLE_OF[state.phase]
    if result is Result.SUCCESS or spec.commands(role)[state.index].may_fail:
        return advance(spec, state, role, state.index + 1, now=now)
    return give_up(spec, replace(state, exit_status=status), result, now)


def on_group_emptied(spec: ServiceSpec, state: ServiceState, now: float) -> Step:
    """Decide what follows, now that nothing of it runs."""
    if state.phase is not Phase.FINAL_SIGKILL:
        return state, ()
    gone = replace(state, main_pid=0, control_pid=0, deadline=None)
    if state.is_start_asked:
        return begin(spec, ServiceState(), now)
    if not state.is_stop_asked:
        if spec.kind is ServiceKind.ONESHOT and state.result is Result.SUCCESS and spec.remain_after_exit:
            return replace(gone, phase=Phase.EXITED), ()
        if comes_back(spec, state.result):
            return restart_later(spec, gone, now), ()
    return replace(gone, phase=Phase.DEAD if state.result is Result.SUCCESS else Phase.FAILED), ()


def comes_back(spec: ServiceSpec, result: Result) -> bool:
    """Say whether Restart= brings a service back that ended like this by itself."""
    return spec.restart is Restart.ALWAYS or (spec.restart is Restart.ON_FAILURE and result is not Result.SUCCESS)


def on_tick(spec: ServiceSpec, state: ServiceState, now: float) -> Step:
    """Act if the deadline of the present phase has passed."""
    if state.deadline is None or now < state.deadline:
        return state, ()
    if state.phase is Phase.AUTO_RESTART:
        return begin(spec, state, now)
    if state.phase is Phase.STOP_SIGTERM:
        return tear_down(state, Result.TIMEOUT)
    return give_up(spec, state, Result.TIMEOUT, now)


def forgiven(state: ServiceState) -> ServiceState:
    """Forget starts and failures, as `systemctl reset-failed` does; what is under way goes on."""
    if state.phase is Phase.FAILED:
        return ServiceState()
    return replace(state, starts=(), failures=0)


def begin(spec: ServiceSpec, state: ServiceState, now: float) -> Step:
    """Start from the first command, if the start limit lets it."""
    recent = tuple(moment for moment in state.starts if now - moment < spec.start_limit_interval_s)
    if 0 < spec.start_limit_burst <= len(recent):
        limited = ServiceState(phase=Phase.FAILED, result=Result.START_LIMIT, exit_status=state.exit_status)
        return replace(limited, starts=recent), ()
    deadline = None if spec.timeout_start_s is None else now + spec.timeout_start_s
    fresh = ServiceState(deadline=deadline, starts=(*recent, now), failures=state.failures)
    return advance(spec, fresh, Role.PRE, 0, now=now)


def advance(spec: ServiceSpec, state: ServiceState, role: Role, index: int, *, now: float) -> Step:
    """Run the next command in order, or note that there is none left."""
    if index < len(spec.commands(role)):
        return replace(state, phase=PHASE_OF[role], index=index), (Spawn(role, index),)
    match role:
        case Role.PRE:
            return advance(spec, state, Role.MAIN, 0, now=now)
        case Role.MAIN:
            return advance(spec, state, Role.POST, 0, now=now)
        case Role.POST:
            if spec.kind is ServiceKind.ONESHOT:
                return tear_down(state, Result.SUCCESS)
            return replace(state, phase=Phase.RUNNING, deadline=None, running_since=now), ()
        case _ as never:
            assert_never(never)


def give_up(spec: ServiceSpec, state: ServiceState, result: Result, now: float) -> Step:
    """End a start that failed: politely if a process runs."""
    failed = replace(state, result=result)
    return terminate(spec, failed, now) if state.main_pid or state.control_pid else tear_down(failed, result)


def terminate(spec: ServiceSpec, state: ServiceState, now: float) -> Step:
    """Ask it to end, and set the moment after which it is made to."""
    deadline = None if spec.timeout_stop_s is None else now + spec.timeout_stop_s
    return replace(state, phase=Phase.STOP_SIGTERM, deadline=deadline), (Terminate(),)


def tear_down(state: ServiceState, result: Result) -> Step:
    """Take away what is left; the first thing that went wrong stays the result."""
    kept = result if state.result is Result.SUCCESS else state.result
    return replace(state, phase=Phase.FINAL_SIGKILL, result=kept, deadline=None), (EmptyGroup(),)


def restart_later(spec: ServiceSpec, state: ServiceState, now: float) -> ServiceState:
    """Set the moment of an automatic restart: RestartSec, doubled with each failure in a row up to a cap."""
    ran_well = state.running_since is not None and now - state.running_since >= spec.restart_cap_s
    failures = 0 if ran_well else state.failures
    delay = min(spec.restart_cap_s, spec.restart_s * 2 ** min(failures, 32))
    return replace(state, phase=Phase.AUTO_RESTART, deadline=now + delay, failures=failures + 1)


def main_result(spec: ServiceSpec, result: Result) -> Result:
    """Forgive the main process of a daemon whatever it ended with, if its command says so (prefix `-`)."""
    is_forgiven = spec.kind is not ServiceKind.ONESHOT and spec.start[0].may_fail
    return Result.SUCCESS if is_forgiven else result


def judge(code: int, spec: ServiceSpec, *, is_stop_asked: bool) -> tuple[Result, int]:
    """Turn a wait status into systemd's Result and ExecMainStatus.

    A oneshot ends cleanly by exiting alone, and by a signal only when it was told to stop.
    """
    if code < 0:
        is_clean = -code in CLEAN_SIGNALS and (is_stop_asked or spec.kind is not ServiceKind.ONESHOT)
        return (Result.SUCCESS if is_clean else Result.SIGNAL), -code
    is_clean = code == 0 or code in spec.success_statuses
    return (Result.SUCCESS if is_clean else Result.EXIT_CODE), code
