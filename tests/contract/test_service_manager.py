"""What every service manager does: systemd, the embedded supervisor, and the fake.

The tests of systemd run inside a container (tests/system/test_systemd_manager.py), where KLOROS_TEST_SYSTEMD is set.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.adapters.systemd import Systemd
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.ports import ServiceManager
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState, UnitState
from tests.fakes.files import FakeFiles
from tests.fakes.service_manager import FakeServiceManager

REAL = ("supervisor", "systemd") if "KLOROS_TEST_SYSTEMD" in os.environ else ("supervisor",)
A = "kloros-contract-a.service"
B = "kloros-contract-b.service"
TARGET = "kloros-contract.target"
SLEEPS = "[Service]\nType=exec\nExecStart=:/bin/sleep 300\n"


@dataclass
class Managed:
    """A service manager and a way to give it unit files."""

    manager: ServiceManager
    write: Callable[[str, str], object]
    written: set[str] = field(default_factory=set)

    def install(self, unit: str, text: str) -> None:
        self.write(unit, text)
        self.written.add(unit)

    def state(self, unit: str) -> UnitState:
        return self.manager.states((unit,))[unit]

    def becomes(self, unit: str, condition: Callable[[UnitState], bool]) -> UnitState:
        deadline = time.monotonic() + 10
        while not condition(state := self.state(unit)):
            assert time.monotonic() < deadline, state
            time.sleep(0.01)  # the pause between two polls of a condition with a deadline
        return state


def with_fake() -> Iterator[Managed]:
    files = FakeFiles()
    manager = FakeServiceManager(files)

    def write(unit: str, text: str) -> None:
        files.files[Layout().unit_path(unit)] = TextFile(text)
        if "exit 3" in text:
            manager.crashing.add(unit)

    yield Managed(manager, write)


def with_supervisor(root: Path) -> Iterator[Managed]:
    folder = root / Layout().units
    folder.mkdir(parents=True)
    client = SupervisorClient(root)
    yield Managed(client, lambda unit, text: (folder / unit).write_text(text))
    client.shutdown()


def with_systemd() -> Iterator[Managed]:
    folder = Path("/run/systemd/system")
    manager = Systemd()
    managed = Managed(manager, lambda unit, text: (folder / unit).write_text(text))
    yield managed
    for unit in sorted(managed.written):
        manager.stop(unit)
        (folder / unit).unlink()
    manager.reload()


def managed_by(name: str, root: Path) -> Iterator[Managed]:
    match name:
        case "fake":
            yield from with_fake()
        case "supervisor":
            yield from with_supervisor(root)
        case _:
            yield from with_systemd()


@pytest.fixture(params=("fake", *REAL))
def managed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Managed]:
    yield from managed_by(request.param, tmp_path)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Managed]:
    yield from managed_by(request.param, tmp_path)


def codes(error: StepFailedError) -> list[str]:
    return [problem.code for problem in error.problems]


def test_a_unit_that_nobody_knows_is_inactive(managed: Managed) -> None:
    state = managed.state("kloros-contract-unknown.service")
    assert (state.active, state.main_pid, state.result) == (ActiveState.INACTIVE, 0, "success")
    assert managed.manager.states(()) == {}


def test_a_started_unit_is_active_until_it_is_stopped(managed: Managed) -> None:
    managed.install(A, SLEEPS)
    managed.manager.reload()
    assert managed.state(A).active is ActiveState.INACTIVE
    managed.manager.start(A)
    state = managed.state(A)
    assert (state.active, state.sub, state.is_active) == (ActiveState.ACTIVE, "running", True)
    assert state.main_pid > 1
    managed.manager.stop(A)
    state = managed.state(A)
    # systemd forgets all about a unit that ended and that nothing refers to.
    expected = UnitState(A, ActiveState.INACTIVE, "dead", exit_status=state.exit_status, has_ended=state.has_ended)
    assert state == expected


def test_a_unit_that_was_stopped_while_another_wants_it_is_known_to_have_ended(managed: Managed) -> None:
    managed.install(A, SLEEPS)
    managed.install(TARGET, f"[Unit]\nWants={A}\n")
    managed.manager.reload()
    assert not managed.state(A).has_ended
    for unit in (TARGET, A):
        managed.manager.start(unit)
    assert not managed.state(A).has_ended
    managed.manager.stop(A)
    assert managed.state(A).has_ended
    managed.manager.start(A)
    assert not managed.state(A).has_ended


def test_starting_what_runs_changes_nothing(managed: Managed) -> None:
    managed.install(A, SLEEPS)
    managed.manager.start(A)
    before = managed.state(A)
    managed.manager.start(A)
    assert managed.state(A) == before


def test_a_restart_replaces_the_process_and_starts_what_is_down(managed: Managed) -> None:
    managed.install(A, SLEEPS)
    managed.manager.restart(A)
    before = managed.state(A)
    managed.manager.restart(A)
    after = managed.state(A)
    assert before.is_active
    assert after.is_active
    assert after.main_pid != before.main_pid


def test_an_unknown_unit_cannot_be_started_but_need_not_be_stopped(managed: Managed) -> None:
    with pytest.raises(StepFailedError) as caught:
        managed.manager.start("kloros-contract-unknown.service")
    assert codes(caught.value) == ["KI601"]
    managed.manager.stop("kloros-contract-unknown.service")


def test_a_unit_that_ends_at_once_has_failed(managed: Managed) -> None:
    managed.install(A, '[Service]\nType=exec\nExecStart=:/bin/sh -c "sleep 0.1; exit 3"\n')
    managed.manager.start(A)
    state = managed.becomes(A, lambda state: state.active is ActiveState.FAILED)
    assert state.result == "exit-code"
    assert state.exit_status > 0


def test_a_failure_can_be_forgotten(managed: Managed) -> None:
    managed.install(A, '[Service]\nType=exec\nExecStart=:/bin/sh -c "sleep 0.1; exit 3"\n')
    managed.manager.start(A)
    managed.becomes(A, lambda state: state.active is ActiveState.FAILED)
    managed.manager.reset_failed((A, "kloros-contract-unknown.service"))
    assert managed.state(A).active is ActiveState.INACTIVE


def test_a_unit_that_never_ran_has_no_log(managed: Managed) -> None:
    assert managed.manager.log_tail("kloros-contract-unknown.service", 5) == ()


def test_a_missing_program_fails_the_start(real: Managed) -> None:
    real.install(A, "[Service]\nType=exec\nExecStart=:/nonexistent/program\n")
    with pytest.raises(StepFailedError) as caught:
        real.manager.start(A)
    assert codes(caught.value) == ["KI604"]
    assert "status 203" in caught.value.problems[0].detail
    state = real.state(A)
    assert (state.active, state.result, state.exit_status) == (ActiveState.FAILED, "exit-code", 203)


def test_a_failed_oneshot_is_reported_with_its_last_lines(real: Managed) -> None:
    real.install(A, '[Service]\nType=oneshot\nExecStart=:/bin/sh -c "echo what went wrong; exit 3"\n')
    with pytest.raises(StepFailedError) as caught:
        real.manager.start(A)
    problem = caught.value.problems[0]
    assert (problem.code, problem.address) == ("KI604", A)
    assert "exit-code, status 3" in problem.detail
    assert "what went wrong" in problem.detail


def test_the_log_tail_is_the_end_of_what_was_written(real: Managed) -> None:
    unit = "kloros-contract-log.service"
    real.install(unit, '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=:/bin/sh -c "seq 100; echo last"\n')
    real.manager.start(unit)
    lines = [line for line in real.manager.log_tail(unit, 6) if line in ("98", "99", "100", "last")]
    assert lines == ["98", "99", "100", "last"]
    assert len(real.manager.log_tail(unit, 2)) == 2


def test_a_oneshot_may_stay_active(real: Managed) -> None:
    real.install(A, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=:/bin/true\n")
    real.manager.start(A)
    state = real.state(A)
    assert (state.active, state.sub, state.main_pid) == (ActiveState.ACTIVE, "exited", 0)
    real.manager.stop(A)
    assert real.state(A).active is ActiveState.INACTIVE


def test_a_target_brings_up_what_it_wants_and_takes_down_what_is_part_of_it(real: Managed) -> None:
    real.install(TARGET, f"[Unit]\nWants={A} {B} kloros-contract-unknown.service\n")
    real.install(A, f"[Unit]\nPartOf={TARGET}\n{SLEEPS}")
    real.install(B, f"[Unit]\nAfter={A}\n{SLEEPS}")
    real.manager.reload()
    real.manager.start(TARGET)
    states = real.manager.states((A, B, TARGET))
    assert {unit: state.active for unit, state in states.items()} == dict.fromkeys((A, B, TARGET), ActiveState.ACTIVE)
    real.manager.stop(TARGET)
    assert not real.state(TARGET).is_active
    real.becomes(A, lambda state: state.active is ActiveState.INACTIVE)
    assert real.state(B).is_active


def test_starting_a_unit_stops_what_it_conflicts_with(real: Managed) -> None:
    real.install(A, f"[Unit]\nConflicts={B}\nAfter={B}\n{SLEEPS}")
    real.install(B, SLEEPS)
    real.manager.reload()
    real.manager.start(B)
    real.manager.start(A)
    assert real.state(A).is_active
    assert real.state(B).active is ActiveState.INACTIVE


def test_a_killed_service_comes_back(real: Managed) -> None:
    real.install(A, f"{SLEEPS}Restart=on-failure\nRestartSec=50ms\n")
    real.manager.start(A)
    before = real.state(A).main_pid
    os.kill(before, signal.SIGKILL)
    after = real.becomes(A, lambda state: state.is_active and state.main_pid != before)
    assert after.main_pid > 1


def test_a_service_that_keeps_failing_is_given_up_and_a_start_by_hand_forgives(real: Managed) -> None:
    text = '[Service]\nType=exec\nExecStart=:/bin/sh -c "sleep 0.1; exit 3"\nRestart=on-failure\nRestartSec=10ms\n'
    real.install(A, f"[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n{text}")
    real.manager.start(A)
    real.becomes(A, lambda state: state.active is ActiveState.FAILED)
    assert real.state(A).exit_status == 3
    real.manager.start(A)


def test_a_changed_file_counts_after_a_reload(real: Managed) -> None:
    old, new = (f'[Service]\nType=exec\nExecStart=:/bin/sh -c "sleep 300; : {word}"\n' for word in ("old", "new"))
    real.install(A, old)
    real.manager.start(A)
    assert not real.state(A).needs_reload
    # systemd tells a changed file by its time of change.
    real.install(A, new)
    assert real.becomes(A, lambda state: state.needs_reload).is_active
    real.manager.restart(A)
    assert command_of(real.state(A)).endswith("old")
    real.manager.reload()
    assert not real.state(A).needs_reload
    assert command_of(real.state(A)).endswith("old")
    real.manager.restart(A)
    assert command_of(real.state(A)).endswith("new")


def command_of(state: UnitState) -> str:
    return Path(f"/proc/{state.main_pid}/cmdline").read_text().rstrip("\0")
