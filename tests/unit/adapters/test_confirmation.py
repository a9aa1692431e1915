"""What waits to be confirmed: who takes it, what another boot makes of it, and how its watcher is started."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from kloros_infra.adapters.confirmation import BOOT_LINK, BOOT_UNIT, LOG, Confirmation, Waiting
from kloros_infra.adapters.systemd_analyze import SystemdAnalyze
from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.ir.layout import Layout
from tests.needed import need
from tests.tiny_site import tree_of


@pytest.fixture
def confirmation(tmp_path: Path) -> Confirmation:
    (tmp_path / Layout().state).mkdir(parents=True)
    return Confirmation(tmp_path)


def waiting_file(root: Path) -> Path:
    return root / Layout().state / "confirm.json"


def test_one_process_alone_confirms_or_undoes(confirmation: Confirmation) -> None:
    assert confirmation.read() is None
    assert not confirmation.confirm()
    assert not confirmation.claim()
    confirmation.begin(4)
    assert confirmation.read() == Waiting(4, None)
    confirmation.await_answer(4, within_s=3600)
    waiting = confirmation.read()
    assert waiting is not None
    assert waiting.left_s is not None
    assert 3500 < waiting.left_s <= 3600
    assert not waiting.is_over
    assert confirmation.confirm()
    assert not confirmation.confirm()
    assert not confirmation.claim()


def test_an_undoing_that_has_begun_can_be_carried_on_and_not_confirmed(confirmation: Confirmation) -> None:
    confirmation.await_answer(None, within_s=3600)
    assert confirmation.claim()
    assert confirmation.read() == Waiting(None, 0.0)
    assert not confirmation.confirm()
    assert confirmation.claim()
    confirmation.settle()
    assert confirmation.read() is None


def test_after_another_boot_the_time_is_over(confirmation: Confirmation, tmp_path: Path) -> None:
    file = waiting_file(tmp_path)
    confirmation.begin(2)
    file.write_text(file.read_text().replace(boot_id(), "another"))
    assert confirmation.read() == Waiting(2, 0.0)
    confirmation.await_answer(2, within_s=3600)
    file.write_text(file.read_text().replace(boot_id(), "another"))
    assert confirmation.read() == Waiting(2, 0.0)


def test_a_damaged_file_is_nothing(confirmation: Confirmation, tmp_path: Path) -> None:
    waiting_file(tmp_path).write_text("{")
    assert confirmation.read() is None


class SystemdRun:
    """A program on PATH that stands where systemd-run does, and writes down its arguments."""

    def __init__(self, folder: Path, exit_status: int) -> None:
        self._calls = folder / "calls"
        program = folder / "systemd-run"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {self._calls}\nexit {exit_status}\n')
        program.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


WATCHER = ["-P", "-m", "kloros_infra", "watch_confirmation", "--root"]


def with_systemd_run(folder: Path, monkeypatch: pytest.MonkeyPatch, exit_status: int = 0) -> SystemdRun:
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return SystemdRun(folder, exit_status)


def test_under_systemd_the_watcher_is_a_unit_of_its_own(
    confirmation: Confirmation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd_run = with_systemd_run(tmp_path, monkeypatch)
    confirmation.start_watcher("systemd")
    options, command = (systemd_run.arguments[:5], systemd_run.arguments[5:])
    assert options == [
        "--quiet",
        "--collect",
        "--property=Type=exec",
        "--description=Undo an apply that is not confirmed",
        "--",
    ]
    # A unit of the system manager's, not a scope of the session's: it outlives terminal, session and reload.
    assert "--scope" not in options
    assert command == [sys.executable, *WATCHER, str(tmp_path), "--manager", "systemd"]
    assert not (tmp_path / Layout().state / LOG).exists()


@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
def test_without_systemd_the_watcher_leaves_the_session(
    confirmation: Confirmation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: str
) -> None:
    systemd_run = with_systemd_run(tmp_path, monkeypatch, exit_status=1)
    watcher = tmp_path / "python"
    told = f"echo $(cut -d' ' -f6 /proc/$$/stat) $$ \"$@\" > {tmp_path}/begins\nmv {tmp_path}/begins {tmp_path}/began\n"
    watcher.write_text(f"#!/bin/sh\n{told}")
    watcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(watcher))
    confirmation.start_watcher(manager)
    deadline = time.monotonic() + 10
    while not (tmp_path / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # the pause between two polls of a condition with a deadline
    session, pid, *words = (tmp_path / "began").read_text().split()
    assert session == pid
    assert words == [*WATCHER, str(tmp_path), "--manager", manager]
    assert bool(systemd_run.arguments) == (manager == "systemd")


@pytest.mark.parametrize("end", ["confirm", "settle"])
def test_a_unit_of_no_generation_undoes_after_a_boot_what_was_not_confirmed(
    confirmation: Confirmation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/100% python/bin/python")
    before = tree_of(tmp_path)
    confirmation.begin(3, "systemd")
    unit, link = tmp_path / BOOT_UNIT, tmp_path / BOOT_LINK
    assert link.resolve() == unit
    lines = unit.read_text().splitlines()
    state = tmp_path / Layout().state
    # With `|` one of them is enough: systemd.unit(5), "Conditions and asserts".
    assert [line for line in lines if line.startswith("Condition")] == [
        f"ConditionPathExists=|{state}/confirm.json",
        f"ConditionPathExists=|{state}/confirm.undoing",
    ]
    words = " ".join(f'"{word}"' for word in (*WATCHER, str(tmp_path), "--manager", "systemd"))
    assert lines[-1] == f'ExecStart=:"/opt/100%% python/bin/python" {words}'
    confirmation.await_answer(3, within_s=3600)
    assert unit.exists()
    getattr(confirmation, end)()
    assert tree_of(tmp_path).keys() - before.keys() == {"etc", "etc/systemd", "etc/systemd/system"}


def test_systemd_takes_the_unit_of_no_generation_as_it_is(confirmation: Confirmation, tmp_path: Path) -> None:
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    confirmation.begin(3, "systemd")
    assert SystemdAnalyze().verify([tmp_path / BOOT_UNIT]) == ()


def test_without_systemd_no_unit_is_left_for_a_boot(confirmation: Confirmation, tmp_path: Path) -> None:
    confirmation.begin(3, "supervisor")
    assert not (tmp_path / BOOT_UNIT).exists()
