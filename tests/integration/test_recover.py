"""What recover, apply and destroy make of a machine that somebody or something else has been at."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.adapters.generations import GenerationFolders
from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.cli.changing import carry_out_locked, destroy
from kloros_infra.cli.confirming import confirm_apply
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.history import recover, roll_back
from kloros_infra.cli.old_generations import collect
from kloros_infra.cli.wiring import Target, generations_of, locked_machine
from kloros_infra.errors import LeftBehindError, LockHeldError, ObstacleError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.planner.desired import Desired
from tests.tiny_site import ALL, ONE, QUIETLY, TWO, apply_quietly, carry_out_confirmed, running, tiny, tree_of

WAIT_S = 20.0


@pytest.fixture
def installed(where: Target) -> Target:
    """Install two generations, one after the other."""
    apply_quietly(tiny(where, ONE), where)
    apply_quietly(tiny(where, TWO), where)
    return where


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the pause between two polls of a condition with a deadline


def current_link(where: Target) -> Path:
    return where.root / where.layout.current


def current(where: Target) -> int | None:
    return generations_of(where).history().current


def codes(error: pytest.ExceptionInfo[ObstacleError]) -> list[str]:
    return [problem.code for problem in error.value.problems]


def test_units_start_after_a_switch_of_routes_alone_and_the_removal_of_what_came_before(where: Target) -> None:
    desired = tiny(where, ONE)
    apply_quietly(desired, where)
    apply_quietly(replace(desired, tree={**desired.tree, where.layout.routing: TextFile("{}\n")}), where)
    collect(where, 1, yes=True, is_dry_run=False)
    assert generations_of(where).history().numbers == (2,)
    manager = SupervisorClient(where.root)
    manager.stop("kloros-a.service")
    manager.start("kloros-a.service")
    assert running(where, ALL) == ONE


def test_a_lost_link_leads_to_the_last_good_generation(installed: Target, capsys: pytest.CaptureFixture[str]) -> None:
    current_link(installed).unlink()
    recover(installed, QUIETLY)
    assert current(installed) == 2
    assert running(installed, ALL) == TWO
    assert "going to 2, the last good one" in capsys.readouterr().out


def test_without_any_mark_nothing_is_guessed_and_nothing_destroyed(installed: Target) -> None:
    current_link(installed).unlink()
    (installed.root / installed.layout.last_good).unlink()
    before = tree_of(installed.root / "etc")
    with pytest.raises(ObstacleError) as caught:
        recover(installed, QUIETLY)
    assert codes(caught) == ["KI564"]
    assert "kept are 1, 2" in caught.value.problems[0].detail
    assert tree_of(installed.root / "etc") == before
    assert running(installed, ALL) == TWO
    roll_back(installed, 2, QUIETLY)
    assert current(installed) == 2


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_stands_in_the_place_of_the_link_is_left_alone(installed: Target, what: str) -> None:
    link = current_link(installed)
    whole = link.resolve()
    link.unlink()
    if what == "folder":
        shutil.copytree(whole, link, symlinks=True)
    else:
        link.symlink_to("elsewhere/2")
    before = tree_of(installed.root / "etc")
    for change in (
        lambda: recover(installed, QUIETLY),
        lambda: apply_quietly(tiny(installed, ONE), installed),
        lambda: roll_back(installed, 1, QUIETLY),
        lambda: destroy(installed, QUIETLY, with_weights=False),
    ):
        with pytest.raises(ObstacleError) as caught:
            change()
        assert "KI595" in codes(caught)
    assert tree_of(installed.root / "etc") == before
    assert running(installed, ALL) == TWO


def test_a_first_apply_that_was_killed_is_still_taken_back(where: Target) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            kill_at_the_flip(where)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    assert generations_of(where).history().numbers == (1,)
    recover(where, QUIETLY)
    assert generations_of(where).history().numbers == ()


class Deadly(GenerationFolders):
    """Generations at whose switch the process is killed."""

    def flip(self, number: int | None) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def kill_at_the_flip(where: Target) -> None:
    display = ProgressDisplay()
    with locked_machine(where, display) as machine:
        deadly = replace(machine, generations=Deadly(where.root, where.layout))
        carry_out_locked(tiny(where, ONE), where, QUIETLY, machine=deadly, display=display)


def with_port(where: Target, port: int) -> Desired:
    """Want services, one of which would bind a port."""
    desired = tiny(where, TWO)
    first, *rest = desired.units
    return replace(desired, units=(replace(first, ports=(port,)), *rest))


def test_a_busy_port_does_not_make_recover_leave_the_current_generation(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        apply_quietly(with_port(where, port), where)
        generations_of(where).mark_last_good(1)
        SupervisorClient(where.root).stop("kloros-a.service")
        (where.root / where.layout.state / "installed.json").unlink()
        holder.listen()
        SupervisorClient(where.root).shutdown()
        with pytest.raises(ObstacleError) as caught:
            recover(where, QUIETLY)
    assert codes(caught) == ["KI504"]
    assert current(where) == 2


def test_a_generation_whose_units_do_not_start_gives_way_to_the_last_good_one(where: Target, tmp_path: Path) -> None:
    interpreter = tmp_path / "sh"
    interpreter.symlink_to("/bin/sh")
    apply_quietly(tiny(where, ONE), where)
    wanted = tiny(where, TWO)
    script = TextFile(f"#!{interpreter}\nexec sleep 1000\n", 0o755)
    apply_quietly(replace(wanted, tree={**wanted.tree, where.layout.program_path("sleeper"): script}), where)
    generations_of(where).mark_last_good(1)
    SupervisorClient(where.root).shutdown()
    interpreter.unlink()
    with pytest.raises(LeftBehindError) as caught:
        recover(where, QUIETLY)
    assert [problem.code for problem in caught.value.problems][-1] == "KI592"
    assert current(where) == 1
    assert running(where, ALL) == ONE


def test_a_damaged_generation_gives_way_to_the_last_good_one(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    apply_quietly(tiny(where, TWO), where)
    generations_of(where).mark_last_good(1)
    SupervisorClient(where.root).shutdown()
    (where.root / where.layout.generation_path(2) / "bin/sleeper").unlink()
    with pytest.raises(LeftBehindError) as caught:
        recover(where, QUIETLY)
    assert [problem.code for problem in caught.value.problems][-1] == "KI592"
    assert current(where) == 1


def test_destroy_takes_all_away_though_the_record_is_lost(installed: Target) -> None:
    record = installed.root / installed.layout.state / "installed.json"
    record.unlink()
    apply_quietly(tiny(installed, ONE), installed)
    assert record.exists()
    record.unlink()
    destroy(installed, QUIETLY, with_weights=True)
    assert running(installed, ALL) == {}
    assert not installed.root.joinpath("etc").exists()


def test_destroy_holds_the_lock_until_everything_is_gone(where: Target) -> None:
    (where.root / "etc").mkdir(parents=True)
    before = tree_of(where.root)
    apply_quietly(tiny(where, ONE), where)
    record = where.root / where.layout.state / "installed.json"
    began, seen = threading.Event(), set()

    def watch() -> None:
        """Ask for the lock all the time, and say what is there whenever it is had."""
        while "nothing" not in seen:
            with suppress(LockHeldError, ObstacleError), apply_lock(where.root):
                has_generation = current(where) is not None
                seen.add("all" if has_generation else "a part" if record.exists() else "nothing")
            began.set()

    watching = threading.Thread(target=watch)
    watching.start()
    began.wait(WAIT_S)
    destroy(where, replace(QUIETLY, wait_s=WAIT_S), with_weights=False)
    watching.join()
    assert "a part" not in seen
    assert {path: text for path, text in tree_of(where.root).items() if not path.startswith("var")} == before


def damaged(where: Target) -> tuple[Path, str]:
    env = next((where.root / where.layout.generation_path(1) / "env").iterdir())
    return env, env.read_text()


def test_what_cannot_be_undone_is_tried_again_until_it_can(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    env, text = damaged(where)
    env.write_text("VERSION='0'\n")
    carry_out_confirmed(tiny(where, TWO), where, QUIETLY, within_s=0.2)
    log = where.root / where.layout.state / "confirm.log"
    wait_until(lambda: log.exists() and "KI588" in log.read_text())
    assert current(where) == 2
    env.write_text(text)
    wait_until(lambda: current(where) == 1)
    wait_until(lambda: Confirmation(where.root).read() is None)
    with apply_lock(where.root, wait_s=WAIT_S):
        assert running(where, ALL) == ONE


def test_what_cannot_be_undone_can_be_kept_or_left_to_recover(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    env, _ = damaged(where)
    env.write_text("VERSION='0'\n")
    apply_quietly(tiny(where, TWO), where)
    confirmation = Confirmation(where.root)
    confirmation.await_answer(1, within_s=-1.0)
    assert confirmation.claim()
    with pytest.raises(ObstacleError) as caught:
        carry_out_confirmed(tiny(where, ONE), where, QUIETLY, within_s=None)
    assert "kloros-infra confirm" in caught.value.problems[0].hint
    assert "kloros-infra rollback" in caught.value.problems[0].hint
    confirm_apply(where)
    assert confirmation.read() is None
    confirmation.await_answer(1, within_s=-1.0)
    with pytest.raises(LeftBehindError) as told:
        recover(where, QUIETLY)
    assert [problem.code for problem in told.value.problems] == ["KI588", "KI592"]
    assert current(where) == 2
    assert confirmation.read() is None
    assert running(where, ALL) == TWO


def test_an_undoing_at_work_is_not_confirmed(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    confirmation = Confirmation(where.root)
    confirmation.await_answer(None, within_s=-1.0)
    assert confirmation.claim()
    with apply_lock(where.root), pytest.raises(LockHeldError):
        confirm_apply(where)
    assert confirmation.read() is not None


def test_a_plain_apply_that_waited_for_one_to_be_confirmed_does_not_build_on_it(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    began = threading.Event()
    refused: list[str] = []

    def wait_for_it() -> None:
        began.wait(WAIT_S)
        try:
            carry_out_confirmed(tiny(where, ONE), where, replace(QUIETLY, wait_s=WAIT_S), within_s=None)
        except ObstacleError as error:
            refused.extend(problem.code for problem in error.problems)

    second = threading.Thread(target=wait_for_it)
    second.start()
    with apply_lock(where.root):
        began.set()
        Confirmation(where.root).begin(1)
        Confirmation(where.root).await_answer(1, within_s=3600)
    second.join()
    assert refused == ["KI533"]


def test_state_can_be_read_by_others_whatever_the_umask(where: Target) -> None:
    before = os.umask(0o077)
    try:
        apply_quietly(tiny(where, ONE), where)
    finally:
        os.umask(before)
    closed = [
        path
        for path in where.root.rglob("*")
        if path.is_dir() and not path.is_symlink() and path.stat().st_mode & 0o055 != 0o055
    ]
    # The supervisor's socket is for its owner alone.
    assert closed == [where.root / where.layout.run]
    state = [path for path in (where.root / where.layout.state).rglob("*") if path.is_file()]
    assert [path for path in state if path.stat().st_mode & 0o044 != 0o044] == []
