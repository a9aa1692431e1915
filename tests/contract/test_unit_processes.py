"""Whose processes are ours: systemd, and the embedded supervisor.

The test of systemd runs inside a container (tests/system/test_unit_processes.py), where KLOROS_TEST_SYSTEMD is set.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kloros_infra.adapters.nvml_memory import NvmlCards
from kloros_infra.adapters.unit_processes import NoProcesses, SupervisedProcesses, SystemdProcesses
from kloros_infra.agent.ports import Processes
from kloros_infra.executor.ports import ServiceManager
from tests.contract.test_service_manager import with_supervisor, with_systemd

REAL = ("supervisor", "systemd") if "KLOROS_TEST_SYSTEMD" in os.environ else ("supervisor",)
UNIT, OTHER = "llama@processes-max.service", "llama@processes-mid.service"
# The shell stays, for it has something to do after its child.
WITH_CHILD = '[Service]\nType=exec\nExecStart=:/bin/sh -c "sleep 300; true"\n'


@dataclass
class Running:
    """Two units, of which one runs."""

    processes: Processes
    manager: ServiceManager

    def pids(self) -> set[int]:
        """Give the unit's processes, once the shell has a child."""
        deadline = time.monotonic() + 10
        while len(found := self.family()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the pause between two polls of a condition with a deadline
        return found

    def family(self) -> set[int]:
        families = self.processes.families((UNIT, OTHER))
        assert families is not None
        return set(families.get(UNIT, ()))


@pytest.fixture(params=REAL)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    makers = with_supervisor(tmp_path) if request.param == "supervisor" else with_systemd()
    with contextlib.contextmanager(lambda: makers)() as real:
        for unit in (UNIT, OTHER):
            real.install(unit, WITH_CHILD)
        real.manager.reload()
        real.manager.start(UNIT)
        own = SupervisedProcesses(tmp_path, NvmlCards().family)
        yield Running(own if request.param == "supervisor" else SystemdProcesses(), real.manager)
        real.manager.stop(UNIT)


def test_all_processes_of_units_that_run_are_named(running: Running) -> None:
    pids = running.pids()
    assert running.manager.states((UNIT,))[UNIT].main_pid in pids
    families = running.processes.families((UNIT, OTHER))
    assert families is not None
    assert {unit for unit, found in families.items() if found} == {UNIT}
    assert not running.processes.families((OTHER,))
    running.manager.stop(UNIT)
    assert not running.family()


def test_where_nobody_runs_units_none_has_processes(tmp_path: Path) -> None:
    assert SupervisedProcesses(tmp_path, lambda _: ()).families((UNIT,)) == {}
    assert NoProcesses().families((UNIT,)) == {}
