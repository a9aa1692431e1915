"""An apply that a person or the system interrupts, as real processes: it undoes itself, whatever comes meanwhile."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kloros_infra.cli.history import recover
from kloros_infra.cli.unit_status import read_status
from kloros_infra.cli.wiring import Target, generations_of, journal_of
from kloros_infra.ir.unit_status import Remedy
from tests.tiny_site import ALL, ONE, QUIETLY, apply_quietly, running, tiny, tree_of

CHECKOUT = Path(__file__).parents[2]
WAIT_S = 30.0

# The second service never answers, and takes its time to stop: there is time to interrupt the apply, and its undo.
APPLY = """
import sys
from dataclasses import replace
from pathlib import Path
import click
from kloros_infra.cli.program import run
from kloros_infra.ir.artifact import TextFile
from tests.tiny_site import apply_quietly, target_at, tiny
where = target_at(Path(sys.argv[1]))
wanted = tiny(where, {"kloros-a.service": "2", "kloros-b.service": "2"})
sleeper = where.layout.program_path("sleeper")
slow = TextFile("#!/bin/sh\\ntrap '' TERM\\nwhile :; do sleep 0.1; done\\n", 0o755)
units = tuple(replace(unit, ready_url="http://127.0.0.1:1/health", timeout_s=60.0) for unit in wanted.units[:1])
wanted = replace(wanted, tree={**wanted.tree, sleeper: slow}, units=(*units, *wanted.units[1:]))
@click.command()
def command():
    apply_quietly(wanted, where)
sys.argv = sys.argv[:1]
run(command, "apply")
"""


@pytest.fixture
def where(where: Target) -> Target:
    apply_quietly(tiny(where, ONE), where)
    return where


def begin(where: Target) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", APPLY, str(where.root)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)


def read_until(apply: subprocess.Popen[str], text: str) -> str:
    """Read what it tells up to a line with this text."""
    assert apply.stderr is not None
    told = ""
    for line in apply.stderr:
        told += line
        if text in line:
            return told
    raise AssertionError(told)


def rest(apply: subprocess.Popen[str]) -> str:
    assert apply.stderr is not None
    return apply.stderr.read()


def assert_undone(where: Target, before: dict[str, str]) -> None:
    assert generations_of(where).history().numbers == (1,)
    assert generations_of(where).history().current == 1
    assert running(where, ALL) == ONE
    assert tree_of(where.root / "etc") == before
    assert journal_of(where).unfinished() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_apply_goes_back_and_ends_with_its_own_code(where: Target, number: int) -> None:
    before = tree_of(where.root / "etc")
    with begin(where) as apply:
        read_until(apply, "wait for kloros-a.service")
        apply.send_signal(number)
        told = rest(apply)
    assert apply.returncode == 3, told
    assert "KI584" in told
    assert "wait for kloros-a.service" in told
    assert "KI585" in told
    assert "Generation 1 is current" in told
    assert_undone(where, before)


def test_a_second_interruption_does_not_end_the_undo(where: Target) -> None:
    before = tree_of(where.root / "etc")
    with begin(where) as apply:
        read_until(apply, "wait for kloros-a.service")
        apply.send_signal(signal.SIGINT)
        told = read_until(apply, "undo: restart kloros-a.service")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            apply.send_signal(number)
        told += rest(apply)
    assert apply.returncode == 3, told
    assert "Stopping already: what was begun is undone first." in told
    assert_undone(where, before)


def test_an_interruption_before_anything_was_touched_changes_nothing(where: Target) -> None:
    before = tree_of(where.root / "etc")
    with begin(where) as apply:
        read_until(apply, "record what is installed")
        apply.send_signal(signal.SIGTERM)
        told = rest(apply)
    # It may have come as far as the first unit by then.
    assert apply.returncode in (1, 3), told
    assert "KI584" in told
    assert ("KI585" in told) == (apply.returncode == 3)
    assert_undone(where, before)


def test_a_kill_of_the_undo_is_told_and_recovered_from(where: Target) -> None:
    with begin(where) as apply:
        read_until(apply, "wait for kloros-a.service")
        assert read_status(where).apply_in_work == "wait for kloros-a.service"
        assert read_status(where).interrupted is None
        apply.send_signal(signal.SIGINT)
        read_until(apply, "undo: switch to generation 1")
        apply.kill()
    assert apply.returncode == -signal.SIGKILL
    status = read_status(where)
    assert status.apply_in_work is None
    assert status.interrupted is not None
    assert status.interrupted.step == "wait for kloros-a.service"
    is_back = status.generation == 1
    assert status.remedy is (Remedy.UNDO if is_back else Remedy.COMPLETE)
    if is_back:
        recover(where, QUIETLY)
        assert running(where, ALL) == ONE
        assert journal_of(where).unfinished() is None


def test_a_terminal_that_is_closed_interrupts_and_does_not_hinder_the_undo(where: Target) -> None:
    before = tree_of(where.root / "etc")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(CHECKOUT)
        os.execv(sys.executable, [sys.executable, "-c", APPLY, str(where.root)])  # noqa: S606 - no shell is wanted
    told = b""
    while b"wait for kloros-a.service" not in told:
        told += os.read(terminal, 4096)
    # tty_ioctl(2), "hangup": SIGHUP comes, and from now on nothing can be written.
    os.close(terminal)
    deadline = time.monotonic() + WAIT_S
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the pause between two polls of a condition with a deadline
    assert os.waitstatus_to_exitcode(ended[1]) != 0
    assert_undone(where, before)
