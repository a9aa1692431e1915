"""A service's life, step by step: no process, no clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.observed import ActiveState
from kloros_infra.supervisor.command_line import Command
from kloros_infra.supervisor.service import (
    Effect,
    EmptyGroup,
    Event,
    Exited,
    GroupEmptied,
    Phase,
    Result,
    Role,
    ServiceState,
    Spawn,
    Spawned,
    SpawnFailed,
    StartAsked,
    StopAsked,
    Terminate,
    Tick,
    step,
)
from kloros_infra.supervisor.service_spec import Restart, ServiceKind, ServiceSpec

RUN = Command(("/bin/run",))
PRE = Command(("/bin/pre",))
GATE = Command(("/bin/gate",))
MAY_FAIL = Command(("/bin/run",), may_fail=True)
DAEMON = ServiceSpec("x.service", start=(RUN,), kind=ServiceKind.EXEC, timeout_start_s=30, timeout_stop_s=10)
ONESHOT = replace(DAEMON, kind=ServiceKind.ONESHOT, timeout_start_s=None)
SIGKILL = -9
SIGTERM = -15


def after(spec: ServiceSpec, *events: Event, state: ServiceState | None = None, now: float = 0.0) -> ServiceState:
    return follow(spec, *events, state=state, now=now)[0]


def follow(
    spec: ServiceSpec, *events: Event, state: ServiceState | None = None, now: float = 0.0
) -> tuple[ServiceState, tuple[Effect, ...]]:
    """Feed events; give the last state and the effects of the last event."""
    current = state or ServiceState()
    effects: tuple[Effect, ...] = ()
    for event in events:
        current, effects = step(spec, current, event, now=now)
    return current, effects


def running(spec: ServiceSpec = DAEMON, *, now: float = 0.0) -> ServiceState:
    return after(spec, StartAsked(), Spawned(7), now=now)


def test_a_daemon_runs_as_soon_as_it_is_executed() -> None:
    state, effects = follow(DAEMON, StartAsked())
    assert (state.phase, effects, state.deadline) == (Phase.START, (Spawn(Role.MAIN, 0),), 30)
    state, effects = follow(DAEMON, Spawned(7), state=state)
    assert (state.phase, state.main_pid, state.deadline, effects) == (Phase.RUNNING, 7, None, ())
    assert state.phase.active is ActiveState.ACTIVE


def test_commands_before_and_after_run_in_order() -> None:
    spec = replace(DAEMON, start_pre=(PRE, PRE), start_post=(GATE,))
    state, effects = follow(spec, StartAsked())
    assert (state.phase, effects) == (Phase.START_PRE, (Spawn(Role.PRE, 0),))
    state, effects = follow(spec, Spawned(1), Exited(1, 0), state=state)
    assert effects == (Spawn(Role.PRE, 1),)
    state, effects = follow(spec, Spawned(2), Exited(2, 0), state=state)
    assert (state.phase, effects) == (Phase.START, (Spawn(Role.MAIN, 0),))
    state, effects = follow(spec, Spawned(3), state=state)
    assert (state.phase, state.main_pid, effects) == (Phase.START_POST, 3, (Spawn(Role.POST, 0),))
    state = after(spec, Spawned(4), Exited(4, 0), state=state)
    assert (state.phase, state.main_pid, state.control_pid) == (Phase.RUNNING, 3, 0)


def test_a_start_while_it_runs_changes_nothing() -> None:
    state = running()
    assert follow(DAEMON, StartAsked(), state=state) == (state, ())


def test_a_program_that_cannot_be_executed_fails_the_start() -> None:
    state, effects = follow(DAEMON, StartAsked(), SpawnFailed(203))
    assert (state.phase, effects) == (Phase.FINAL_SIGKILL, (EmptyGroup(),))
    state = after(DAEMON, GroupEmptied(), state=state)
    assert (state.phase, state.result, state.exit_status) == (Phase.FAILED, Result.EXIT_CODE, 203)


def test_a_forgiven_program_that_cannot_be_executed_leaves_it_down() -> None:
    spec = replace(DAEMON, start=(MAY_FAIL,))
    state = after(spec, StartAsked(), SpawnFailed(203), GroupEmptied())
    assert (state.phase, state.result) == (Phase.DEAD, Result.SUCCESS)


def test_a_command_before_that_fails_ends_the_start_unless_it_may_fail() -> None:
    strict = replace(DAEMON, start_pre=(PRE,))
    state, effects = follow(strict, StartAsked(), Spawned(1), Exited(1, 3))
    assert (state.phase, state.result, state.exit_status, effects) == (
        Phase.FINAL_SIGKILL,
        Result.EXIT_CODE,
        3,
        (EmptyGroup(),),
    )
    lenient = replace(DAEMON, start_pre=(MAY_FAIL,))
    assert follow(lenient, StartAsked(), Spawned(1), Exited(1, 3))[1] == (Spawn(Role.MAIN, 0),)
    assert follow(lenient, StartAsked(), SpawnFailed(203))[1] == (Spawn(Role.MAIN, 0),)


def test_a_gate_that_fails_ends_the_running_process_politely() -> None:
    spec = replace(DAEMON, start_post=(GATE,))
    state, effects = follow(spec, StartAsked(), Spawned(3), Spawned(4), Exited(4, 1))
    assert (state.phase, effects) == (Phase.STOP_SIGTERM, (Terminate(),))
    state = after(spec, Exited(3, SIGTERM), GroupEmptied(), state=state)
    assert (state.phase, state.result) == (Phase.FAILED, Result.EXIT_CODE)


def test_the_end_of_the_main_process_ends_a_waiting_gate() -> None:
    spec = replace(DAEMON, start_post=(GATE,))
    state, effects = follow(spec, StartAsked(), Spawned(3), Spawned(4), Exited(3, 1))
    assert (state.phase, state.exit_status, effects) == (Phase.FINAL_SIGKILL, 1, (EmptyGroup(),))
    assert after(spec, Exited(4, SIGKILL), state=state).phase is Phase.FINAL_SIGKILL


def test_a_stop_asks_first_and_then_makes_sure() -> None:
    state, effects = follow(DAEMON, StopAsked(), state=running(), now=100)
    assert (state.phase, state.deadline, effects) == (Phase.STOP_SIGTERM, 110, (Terminate(),))
    gone, effects = follow(DAEMON, Exited(7, 0), state=state)
    assert effects == (EmptyGroup(),)
    assert after(DAEMON, GroupEmptied(), state=gone).phase is Phase.DEAD


def test_a_stop_that_takes_too_long_kills_and_says_so() -> None:
    state = after(DAEMON, StopAsked(), state=running(), now=100)
    assert follow(DAEMON, Tick(), state=state, now=109.9) == (state, ())
    state, effects = follow(DAEMON, Tick(), state=state, now=110)
    assert (state.phase, effects) == (Phase.FINAL_SIGKILL, (EmptyGroup(),))
    state = after(DAEMON, Exited(7, SIGKILL), GroupEmptied(), state=state)
    assert (state.phase, state.result, state.exit_status) == (Phase.FAILED, Result.TIMEOUT, 9)


def test_without_a_stop_timeout_it_waits_for_ever() -> None:
    spec = replace(DAEMON, timeout_stop_s=None)
    state = after(spec, StopAsked(), state=running(spec))
    assert follow(spec, Tick(), state=state, now=1e9) == (state, ())


def test_a_stop_while_a_command_before_runs_ends_that() -> None:
    spec = replace(DAEMON, start_pre=(PRE,))
    state, effects = follow(spec, StartAsked(), Spawned(1), StopAsked())
    assert (state.phase, effects) == (Phase.STOP_SIGTERM, (Terminate(),))
    state = after(spec, Exited(1, SIGTERM), GroupEmptied(), state=state)
    assert (state.phase, state.result) == (Phase.DEAD, Result.SUCCESS)


def test_while_it_stops_the_end_of_the_gate_is_not_the_end() -> None:
    spec = replace(DAEMON, start_post=(GATE,))
    state = after(spec, StartAsked(), Spawned(3), Spawned(4), StopAsked(), Exited(4, SIGTERM))
    assert (state.phase, state.main_pid) == (Phase.STOP_SIGTERM, 3)


@pytest.mark.parametrize("phase", [Phase.DEAD, Phase.FAILED])
def test_a_stop_of_what_is_down_changes_nothing(phase: Phase) -> None:
    state = ServiceState(phase=phase)
    assert follow(DAEMON, StopAsked(), state=state) == (state, ())


def test_a_start_during_a_stop_starts_again_afterwards() -> None:
    state, effects = follow(DAEMON, StopAsked(), StartAsked(), state=running())
    assert (state.phase, effects) == (Phase.STOP_SIGTERM, ())
    state, effects = follow(DAEMON, Exited(7, SIGTERM), GroupEmptied(), state=state)
    assert (state.phase, effects) == (Phase.START, (Spawn(Role.MAIN, 0),))


def test_a_stop_takes_back_a_start_that_waits() -> None:
    state = after(DAEMON, StopAsked(), StartAsked(), StopAsked(), Exited(7, 0), GroupEmptied(), state=running())
    assert state.phase is Phase.DEAD


def test_a_start_that_takes_too_long_fails() -> None:
    spec = replace(DAEMON, start_pre=(PRE,))
    state, effects = follow(spec, Tick(), state=after(spec, StartAsked(), Spawned(1)), now=30)
    assert (state.phase, effects) == (Phase.STOP_SIGTERM, (Terminate(),))
    state = after(spec, Exited(1, SIGTERM), GroupEmptied(), state=state)
    assert (state.phase, state.result) == (Phase.FAILED, Result.TIMEOUT)


@pytest.mark.parametrize(
    ("restart", "code", "comes_back"),
    [
        (Restart.NO, 1, False),
        (Restart.ON_FAILURE, 0, False),
        (Restart.ON_FAILURE, 1, True),
        (Restart.ON_FAILURE, SIGKILL, True),
        (Restart.ON_FAILURE, SIGTERM, False),
        (Restart.ALWAYS, 0, True),
        (Restart.ALWAYS, SIGTERM, True),
    ],
)
def test_what_comes_back_by_itself(restart: Restart, code: int, *, comes_back: bool) -> None:
    spec = replace(DAEMON, restart=restart)
    state = after(spec, Exited(7, code), GroupEmptied(), state=running(spec))
    assert (state.phase is Phase.AUTO_RESTART) is comes_back


def test_an_exit_status_may_be_declared_a_success() -> None:
    spec = replace(DAEMON, restart=Restart.ON_FAILURE, success_statuses=frozenset({143}))
    state = after(spec, Exited(7, 143), GroupEmptied(), state=running(spec))
    assert (state.phase, state.exit_status) == (Phase.DEAD, 143)


def test_what_is_stopped_by_hand_does_not_come_back() -> None:
    spec = replace(DAEMON, restart=Restart.ALWAYS)
    assert after(spec, StopAsked(), Exited(7, 1), GroupEmptied(), state=running(spec)).phase is Phase.FAILED


def crash(spec: ServiceSpec, state: ServiceState, *, now: float) -> ServiceState:
    return after(spec, Exited(state.main_pid, 1), GroupEmptied(), state=state, now=now)


def test_each_restart_in_a_row_waits_twice_as_long_up_to_the_cap() -> None:
    spec = replace(DAEMON, restart=Restart.ALWAYS, restart_s=2, restart_cap_s=10, start_limit_burst=0)
    state, now, delays = running(spec), 0.0, []
    for _ in range(5):
        state = crash(spec, state, now=now)
        assert state.deadline is not None
        delays.append(state.deadline - now)
        now = state.deadline
        state = after(spec, Tick(), Spawned(7), state=state, now=now)
        assert state.phase is Phase.RUNNING
    assert delays == [2, 4, 8, 10, 10]


def test_a_service_that_ran_well_for_a_while_starts_afresh() -> None:
    spec = replace(DAEMON, restart=Restart.ALWAYS, restart_s=2, restart_cap_s=10, start_limit_burst=0)
    state = replace(running(spec), failures=3)
    assert crash(spec, state, now=9.9).deadline == 9.9 + 10
    assert crash(spec, state, now=10).deadline == 10 + 2


def test_too_many_starts_in_too_short_a_time_end_the_attempts() -> None:
    spec = replace(DAEMON, restart=Restart.ON_FAILURE, restart_s=1, start_limit_interval_s=100, start_limit_burst=2)
    state = crash(spec, running(spec), now=1)
    state = after(spec, Tick(), Spawned(7), state=state, now=2)
    assert state.phase is Phase.RUNNING
    state = after(spec, Tick(), state=crash(spec, state, now=3), now=99)
    assert (state.phase, state.result) == (Phase.FAILED, Result.START_LIMIT)


def test_starts_that_lie_far_apart_do_not_count() -> None:
    spec = replace(DAEMON, restart=Restart.ON_FAILURE, restart_s=1, start_limit_interval_s=100, start_limit_burst=1)
    state = after(spec, Tick(), state=crash(spec, running(spec), now=99), now=100)
    assert state.phase is Phase.START


def test_a_start_by_hand_forgives() -> None:
    limited = ServiceState(phase=Phase.FAILED, result=Result.START_LIMIT, starts=(0, 0, 0, 0, 0), failures=4)
    state = after(DAEMON, StartAsked(), state=limited)
    assert (state.phase, state.failures, state.result) == (Phase.START, 0, Result.SUCCESS)


def test_a_stop_while_it_waits_for_its_restart_ends_the_waiting() -> None:
    spec = replace(DAEMON, restart=Restart.ALWAYS)
    state = after(spec, StopAsked(), state=crash(spec, running(spec), now=1))
    assert (state.phase, state.deadline) == (Phase.DEAD, None)


def test_a_oneshot_is_over_when_its_last_command_is() -> None:
    spec = replace(ONESHOT, start=(RUN, RUN))
    state, effects = follow(spec, StartAsked(), Spawned(1), Exited(1, 0))
    assert effects == (Spawn(Role.MAIN, 1),)
    state, effects = follow(spec, Spawned(2), Exited(2, 0), state=state)
    assert effects == (EmptyGroup(),)
    assert after(spec, GroupEmptied(), state=state).phase is Phase.DEAD
    stays = replace(spec, remain_after_exit=True)
    state = after(stays, GroupEmptied(), state=state)
    assert (state.phase, state.phase.active) == (Phase.EXITED, ActiveState.ACTIVE)
    assert after(stays, StopAsked(), state=state).phase is Phase.DEAD


def test_a_oneshot_that_is_killed_has_failed_unless_it_was_stopped() -> None:
    killed = after(ONESHOT, StartAsked(), Spawned(1), Exited(1, SIGTERM), GroupEmptied())
    assert (killed.phase, killed.result) == (Phase.FAILED, Result.SIGNAL)
    stopped = after(ONESHOT, StartAsked(), Spawned(1), StopAsked(), Exited(1, SIGTERM), GroupEmptied())
    assert stopped.phase is Phase.DEAD


def test_a_forgiven_command_of_a_oneshot_lets_the_next_one_run() -> None:
    spec = replace(ONESHOT, start=(MAY_FAIL, RUN))
    assert follow(spec, StartAsked(), Spawned(1), Exited(1, 5))[1] == (Spawn(Role.MAIN, 1),)
    assert follow(spec, StartAsked(), SpawnFailed(203))[1] == (Spawn(Role.MAIN, 1),)


def test_what_is_none_of_its_business_changes_nothing() -> None:
    state = running()
    assert follow(DAEMON, Exited(99, 1), state=state) == (state, ())
    assert follow(DAEMON, GroupEmptied(), state=state) == (state, ())
    assert follow(DAEMON, Tick(), state=state, now=1e9) == (state, ())


@pytest.mark.parametrize("phase", [Phase.START_PRE, Phase.START, Phase.START_POST])
def test_a_job_is_not_over_while_commands_run(phase: Phase) -> None:
    assert not phase.is_settled
    assert phase.active is ActiveState.ACTIVATING


@pytest.mark.parametrize("phase", [Phase.DEAD, Phase.RUNNING, Phase.EXITED, Phase.AUTO_RESTART, Phase.FAILED])
def test_a_job_is_over_when_it_runs_or_is_down(phase: Phase) -> None:
    assert phase.is_settled
