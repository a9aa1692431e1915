"""What starts and stops units for the router: systemd, the embedded supervisor, and the fake.

The tests of systemd run inside a container (tests/system/test_systemd_units.py), where KLOROS_TEST_SYSTEMD is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kloros_infra.adapters.supervised_units import SupervisedUnits
from kloros_infra.adapters.systemd_units import SystemdUnits
from kloros_infra.daemon.ports import UnitControl
from kloros_infra.errors import UnitError
from kloros_infra.ir.seen_unit import SeenUnit
from tests.contract.test_service_manager import SLEEPS, with_supervisor, with_systemd
from tests.fakes.unit_control import FakeUnitControl

REAL = ("supervisor", "systemd") if "KLOROS_TEST_SYSTEMD" in os.environ else ("supervisor",)
UNIT = "kloros-units.service"
UNKNOWN = "kloros-units-unknown.service"
DOWN = SeenUnit(is_up=False)
# systemd continues a stopped process so that it can end; this one does not end either.
STUBBORN = (
    "[Service]\nType=exec\nExecStart=:/bin/sh -c \"trap '' TERM; while :; do sleep 1; done\"\nTimeoutStopSec=60\n"
)
MISSING = "[Service]\nType=exec\nExecStart=:/nonexistent/program\n"
# systemd calls a oneshot that a stop has ended with SIGTERM failed, systemd.service(5) "SuccessExitStatus=".
NEVER_STARTED = "[Service]\nType=oneshot\nExecStart=:/bin/sleep 300\n"
LOGGED = '[Service]\nType=oneshot\nExecStart=:/bin/sh -c "echo what went wrong; exit 3"\n'

Result = TypeVar("Result")


@dataclass
class Managed:
    """A unit control, and a way to give it unit files; each test has a loop of its own."""

    units: UnitControl
    install: Callable[[str, str], object]

    def state(self, unit: str = UNIT) -> SeenUnit:
        return run(self.units.states((unit,))).get(unit, DOWN)

    def becomes(self, condition: Callable[[SeenUnit], bool]) -> SeenUnit:
        deadline = time.monotonic() + 10
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, state
            time.sleep(0.01)  # the pause between two polls of a condition with a deadline
        return state


def run(job: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(job, 30))


def with_fake() -> Iterator[Managed]:
    fake = FakeUnitControl()

    def install(unit: str, text: str) -> None:
        fake.known.add(unit)
        if "nonexistent" in text or "exit 3" in text:
            fake.failing.add(unit)
            fake.logs[unit] = ("what went wrong",)

    yield Managed(fake, install)


def managed_by(name: str, root: Path) -> Iterator[Managed]:
    if name == "fake":
        yield from with_fake()
        return
    makers = with_supervisor(root) if name == "supervisor" else with_systemd()
    with contextlib.contextmanager(lambda: makers)() as real:
        # The sync manager starts the supervisor; a router is started by one.
        real.install("kloros-units.target", "[Unit]\n")
        real.manager.start("kloros-units.target")

        def install(unit: str, text: str) -> None:
            real.install(unit, text)
            real.manager.reload()

        units: UnitControl = SupervisedUnits(root) if name == "supervisor" else SystemdUnits()
        yield Managed(units, install)


@pytest.fixture(params=("fake", *REAL))
def managed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Managed]:
    yield from managed_by(request.param, tmp_path)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Managed]:
    yield from managed_by(request.param, tmp_path)


def test_a_unit_is_up_from_its_start_to_its_stop(managed: Managed) -> None:
    managed.install(UNIT, SLEEPS)
    assert managed.state() == DOWN
    run(managed.units.start(UNIT))
    up = managed.state()
    assert up.is_up
    assert up.pid > 1
    run(managed.units.start(UNIT))
    assert managed.state() == up
    run(managed.units.stop(UNIT))
    assert managed.state() == DOWN
    run(managed.units.stop(UNIT))


def test_a_restart_gives_another_process_and_starts_what_is_down(managed: Managed) -> None:
    managed.install(UNIT, SLEEPS)
    run(managed.units.restart(UNIT))
    before = managed.state()
    run(managed.units.restart(UNIT))
    after = managed.state()
    assert before.is_up
    assert after.is_up
    assert after.pid not in (0, before.pid)


def test_a_unit_that_nobody_knows_is_down_and_cannot_be_started(managed: Managed) -> None:
    assert managed.state(UNKNOWN) == DOWN
    assert run(managed.units.states(())) == {}
    with pytest.raises(UnitError) as caught:
        run(managed.units.start(UNKNOWN))
    assert caught.value.problem.code == "KI601"
    run(managed.units.stop(UNKNOWN))


def test_a_start_that_fails_says_so_with_the_last_lines(managed: Managed) -> None:
    managed.install(UNIT, LOGGED)
    with pytest.raises(UnitError) as caught:
        run(managed.units.start(UNIT))
    assert (caught.value.problem.code, caught.value.problem.address) == ("KI604", UNIT)
    assert any("what went wrong" in line for line in caught.value.last_lines)
    assert "what went wrong" not in caught.value.problem.detail
    assert not managed.state().is_up


def test_a_program_that_is_missing_fails_the_start(managed: Managed) -> None:
    managed.install(UNIT, MISSING)
    with pytest.raises(UnitError) as caught:
        run(managed.units.start(UNIT))
    assert caught.value.problem.code == "KI604"


def test_what_ends_by_itself_is_down_and_its_last_words_can_be_read(real: Managed) -> None:
    real.install(UNIT, '[Service]\nType=exec\nExecStart=:/bin/sh -c "echo goodbye; exec sleep 300"\n')
    run(real.units.start(UNIT))
    os.kill(real.state().pid, signal.SIGKILL)
    assert real.becomes(lambda state: not state.is_up) == SeenUnit(is_up=False, has_failed=True)
    assert "goodbye" in run(real.units.log_tail(UNIT, 5))
    assert run(real.units.log_tail(UNKNOWN, 5)) == ()


def test_what_somebody_stops_is_seen_to_stop_and_has_not_failed(real: Managed) -> None:
    real.install(UNIT, STUBBORN)
    run(real.units.start(UNIT))
    pid = real.state().pid

    async def stop() -> None:
        stopping = asyncio.ensure_future(real.units.stop(UNIT))
        while not (await real.units.states((UNIT,)))[UNIT].is_stopping:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)  # the pause between two polls of another process
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait((stopping,))

    run(stop())
    assert not real.state().is_up
    assert not real.state().comes_back


def test_what_fails_and_comes_back_says_so(real: Managed) -> None:
    real.install(UNIT, f"{SLEEPS}Restart=on-failure\nRestartSec=60\n")
    run(real.units.start(UNIT))
    os.kill(real.state().pid, signal.SIGKILL)
    failed = SeenUnit(is_up=False, has_failed=True, comes_back=True)
    assert real.becomes(lambda state: not state.is_up) == failed
    run(real.units.stop(UNIT))
    assert not real.state().comes_back


def test_what_hangs_and_ignores_sigterm_is_restarted_at_once(real: Managed) -> None:
    real.install(UNIT, STUBBORN)
    run(real.units.start(UNIT))
    before = real.state().pid
    os.kill(before, signal.SIGSTOP)
    began = time.monotonic()
    run(real.units.restart(UNIT))
    assert time.monotonic() - began < 5
    assert real.state().pid not in (0, before)
    os.kill(real.state().pid, signal.SIGKILL)


def test_a_stop_overtakes_a_start_and_ends_it(real: Managed) -> None:
    real.install(UNIT, NEVER_STARTED)

    async def both() -> UnitError:
        start = asyncio.ensure_future(real.units.start(UNIT))
        while not (await real.units.states((UNIT,)))[UNIT].is_up:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)  # the pause between two polls of another process
        await real.units.stop(UNIT)
        with pytest.raises(UnitError) as caught:
            await start
        return caught.value

    assert run(both()).problem.code in ("KI604", "KI605")
    assert real.state()._replace(has_failed=False) == DOWN


def test_a_caller_that_waits_no_more_leaves_nothing_behind(real: Managed) -> None:
    real.install(UNIT, NEVER_STARTED)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await real.units.start(UNIT)
        await real.units.stop(UNIT)

    run(give_up())
    assert real.state()._replace(has_failed=False) == DOWN


def test_without_a_supervisor_there_is_nobody_to_ask(tmp_path: Path) -> None:
    units = SupervisedUnits(tmp_path)
    for job in (units.start(UNIT), units.stop(UNIT), units.states((UNIT,))):
        with pytest.raises(UnitError) as caught:
            run(job)
        assert caught.value.problem.code == "KI602"
    assert run(units.log_tail(UNIT, 5)) == ()
