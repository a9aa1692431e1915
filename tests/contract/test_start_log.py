"""What a unit's present process wrote: the supervisor's files, and the fake; the journal's turn comes with systemd."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.adapters.start_log import TAIL_BYTES, FileStartLog, JournalStartLog
from kloros_infra.adapters.systemd import Systemd
from kloros_infra.executor.gate_ports import StartLog
from kloros_infra.executor.ports import ServiceManager
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import beginning_of, log_file
from tests.fakes.gate import FakeStartLog

UNIT = "kloros-contract-start-log.service"
TEXT = '[Service]\nType=exec\nExecStart=:/bin/sh -c "echo begun as $$; echo é >&2; exec sleep 300"\n'
REAL = ("supervisor", "systemd") if "KLOROS_TEST_SYSTEMD" in os.environ else ("supervisor",)

Started = Callable[[], int]
"""Restart the unit; give its process."""


def with_manager(manager: ServiceManager) -> Started:
    def restart() -> int:
        manager.reload()
        manager.restart(UNIT)
        return manager.states((UNIT,))[UNIT].main_pid

    return restart


@pytest.fixture(params=REAL)
def logged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[StartLog, Started]]:
    if request.param == "supervisor":
        folder = tmp_path / Layout().units
        folder.mkdir(parents=True)
        (folder / UNIT).write_text(TEXT)
        client = SupervisorClient(tmp_path)
        yield FileStartLog(tmp_path), with_manager(client)
        client.shutdown()
        return
    file = Path("/run/systemd/system") / UNIT
    file.write_text(TEXT)
    systemd = Systemd()
    yield JournalStartLog(), with_manager(systemd)
    systemd.stop(UNIT)
    file.unlink()
    systemd.reload()


def test_the_lines_of_the_present_process_alone_are_given(logged: tuple[StartLog, Started]) -> None:
    log, restart = logged
    for _ in range(2):
        pid = restart()
        expected = (f"begun as {pid}", "é")
        deadline = time.monotonic() + 10
        while (found := log.lines(UNIT, pid)) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)  # the pause between two polls of a condition with a deadline


def test_a_unit_that_never_ran_has_no_lines(logged: tuple[StartLog, Started]) -> None:
    log, _ = logged
    assert log.lines("kloros-contract-unknown.service", 1) == ()


def test_of_a_large_file_the_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / Layout().logs / log_file(UNIT)
    file.parent.mkdir(parents=True)
    file.write_text(f"{beginning_of(1)}\n" + "x" * TAIL_BYTES + f"\nof another\n{beginning_of(2)}\nlast\n")
    assert FileStartLog(tmp_path).lines(UNIT, 2) == ("last",)
    assert FileStartLog(tmp_path).lines(UNIT, 1) == ()


def test_the_fake_gives_what_was_written_and_then_what_came_later() -> None:
    log = FakeStartLog()
    log.written[UNIT], log.later[UNIT] = ("a",), ("b",)
    assert [log.lines(UNIT, 1), log.lines(UNIT, 1), log.lines("x.service", 1)] == [("a",), ("a", "b"), ()]
