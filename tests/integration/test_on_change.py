"""What waits for the next start really waits, over real processes: through plans, applies, crashes and rollbacks."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.cli.changing import Manner
from kloros_infra.cli.history import recover, roll_back
from kloros_infra.cli.wiring import Target, observe_target
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from tests.tiny_site import QUIETLY, apply_quietly, running, tiny

UNIT = "kloros-a.service"
ALL = frozenset({UNIT})
WAIT_S = 20.0


def wanted(where: Target, version: str, on_change: str = "defer") -> Desired:
    return tiny(where, {UNIT: version}, on_change=on_change)


def planned(desired: Desired, where: Target) -> Plan:
    return plan(desired, observe_target(desired, where))[0]


def main_pid(where: Target) -> int:
    return SupervisorClient(where.root).states((UNIT,))[UNIT].main_pid


def kill(where: Target) -> None:
    """Kill the process, and wait for the one that comes after it."""
    before = main_pid(where)
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while main_pid(where) in (0, before):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the pause between two polls of a condition with a deadline


def test_a_deferred_change_counts_from_the_next_start(where: Target) -> None:
    apply_quietly(wanted(where, "1"), where)
    pid = main_pid(where)
    second = wanted(where, "2")
    assert apply_quietly(second, where)
    assert (main_pid(where), running(where, ALL)) == (pid, {UNIT: "1"})

    made = planned(second, where)
    assert (made.is_empty, made.steps, len(made.deferred)) == (True, (), 1)
    assert made.drift == ()
    assert not apply_quietly(second, where)

    kill(where)
    assert running(where, ALL) == {UNIT: "2"}
    after = planned(second, where)
    assert (after.is_empty, after.deferred) == (True, ())


def test_the_restart_that_waits_can_be_asked_for(where: Target) -> None:
    apply_quietly(wanted(where, "1"), where)
    second = wanted(where, "2")
    apply_quietly(second, where)
    apply_quietly(replace(second, replaced=ALL), where)
    assert running(where, ALL) == {UNIT: "2"}
    assert planned(second, where).deferred == ()


def test_taking_the_word_back_makes_it_due(where: Target) -> None:
    apply_quietly(wanted(where, "1"), where)
    apply_quietly(wanted(where, "2"), where)
    apply_quietly(wanted(where, "2", "restart"), where)
    assert running(where, ALL) == {UNIT: "2"}


def test_a_rollback_to_what_it_runs_by_touches_nothing(where: Target, capsys: pytest.CaptureFixture[str]) -> None:
    first = wanted(where, "1")
    apply_quietly(first, where)
    pid = main_pid(where)
    apply_quietly(wanted(where, "2"), where)
    capsys.readouterr()
    roll_back(where, 1, Manner("?", yes=True))
    assert "restart" not in capsys.readouterr().err
    assert main_pid(where) == pid
    made = planned(first, where)
    assert (made.is_empty, made.deferred) == (True, ())


def test_recovering_leaves_alone_what_waits(where: Target) -> None:
    apply_quietly(wanted(where, "1"), where)
    pid = main_pid(where)
    second = wanted(where, "2")
    apply_quietly(second, where)
    recover(where, QUIETLY)
    assert main_pid(where) == pid
    assert len(planned(second, where).deferred) == 1
