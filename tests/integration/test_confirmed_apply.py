"""`apply --confirm` over real files and services: undone unless confirmed, whatever ends the apply or its watcher."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.apply_lock import apply_lock
from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.cli.changing import carry_out_locked
from kloros_infra.cli.confirming import (
    confirm_apply,
    do_confirmed,
    refuse_while_waiting,
    watch,
)
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.history import recover, roll_back
from kloros_infra.cli.old_generations import collect
from kloros_infra.cli.wiring import Target, generations_of
from kloros_infra.errors import ObstacleError, StepFailedError
from kloros_infra.executor.machine import Machine
from tests.tiny_site import (
    ALL,
    ONE,
    QUIETLY,
    TWO,
    WAIT_S,
    apply_quietly,
    broken,
    carry_out_confirmed,
    current,
    running,
    tiny,
    wait_until,
)


def test_an_apply_that_nobody_confirms_is_undone(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    carry_out_confirmed(tiny(where, TWO), where, QUIETLY, within_s=1.0)
    assert running(where, ALL) == TWO
    with pytest.raises(ObstacleError) as caught:
        refuse_while_waiting(where)
    assert caught.value.problems[0].code == "KI533"
    wait_until(lambda: current(where) == 1)
    wait_until(lambda: Confirmation(where.root).read() is None)
    with apply_lock(where.root, wait_s=WAIT_S):
        assert running(where, ALL) == ONE
    with pytest.raises(ObstacleError) as caught:
        confirm_apply(where)
    assert caught.value.problems[0].code == "KI534"


def test_a_first_apply_that_nobody_confirms_leaves_nothing(where: Target) -> None:
    carry_out_confirmed(tiny(where, ONE), where, QUIETLY, within_s=0.2)
    wait_until(lambda: current(where) is None)
    with apply_lock(where.root, wait_s=WAIT_S):
        assert running(where, ALL) == {}


@pytest.mark.parametrize("how", ["time is over", "apply was killed", "undoing was killed"])
def test_recover_undoes_what_nobody_confirmed_before_the_machine_went_down(where: Target, how: str) -> None:
    apply_quietly(tiny(where, ONE), where)
    apply_quietly(tiny(where, TWO), where)
    confirmation = Confirmation(where.root)
    match how:
        case "apply was killed":
            confirmation.begin(1)
        case _:
            confirmation.await_answer(1, within_s=-1.0)
            assert how == "time is over" or confirmation.claim()
    with pytest.raises(ObstacleError) as caught:
        carry_out_confirmed(tiny(where, TWO), where, QUIETLY, within_s=None)
    assert caught.value.problems[0].code == "KI533"
    assert "kloros-infra recover" in caught.value.problems[0].hint
    recover(where, QUIETLY)
    assert current(where) == 1
    assert running(where, ALL) == ONE
    assert confirmation.read() is None
    carry_out_confirmed(tiny(where, TWO), where, QUIETLY, within_s=None)
    assert current(where) == 3


def test_what_waits_is_undone_after_another_boot(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    apply_quietly(tiny(where, TWO), where)
    confirmation = Confirmation(where.root)
    confirmation.await_answer(1, within_s=3600)
    file = where.root / where.layout.state / "confirm.json"
    file.write_text(file.read_text().replace(boot_id(), "another-boot"))
    # The watcher is what `profile start` has systemd run at boot.
    watch(where)
    assert current(where) == 1
    assert running(where, ALL) == ONE
    assert confirmation.read() is None


def test_a_rollback_settles_what_waits(where: Target) -> None:
    for version in ("1", "2", "3"):
        apply_quietly(tiny(where, {"kloros-a.service": version}), where)
    Confirmation(where.root).await_answer(2, within_s=3600)
    roll_back(where, 1, QUIETLY)
    assert Confirmation(where.root).read() is None
    assert current(where) == 1


def test_gc_keeps_what_an_unconfirmed_apply_goes_back_to(where: Target) -> None:
    for version in ("1", "2", "3", "4"):
        apply_quietly(tiny(where, {"kloros-a.service": version}), where)
    Confirmation(where.root).await_answer(2, within_s=3600)
    collect(where, 1, yes=True, is_dry_run=False)
    assert generations_of(where).history().numbers == (2, 4)


def test_an_apply_keeps_the_generation_before_it_however_few_are_to_be_kept(where: Target) -> None:
    for version in ("1", "2", "3"):
        desired = replace(tiny(where, {"kloros-a.service": version}), keep_generations=1)
        carry_out_confirmed(desired, where, QUIETLY, within_s=None)
    assert generations_of(where).history().numbers == (2, 3)
    carry_out_confirmed(replace(tiny(where, ONE), keep_generations=1), where, QUIETLY, within_s=0.2)
    wait_until(lambda: current(where) == 3)
    wait_until(lambda: Confirmation(where.root).read() is None)


def test_an_apply_that_ends_with_an_error_after_its_switch_is_to_be_confirmed_too(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)

    def work(machine: Machine, display: ProgressDisplay) -> None:
        carry_out_locked(tiny(where, TWO), where, QUIETLY, machine=machine, display=display)
        raise OSError(5, "the terminal is gone")

    with pytest.raises(OSError, match="the terminal is gone"):
        do_confirmed(work, where, wait_s=0.0, within_s=0.2)
    wait_until(lambda: current(where) == 1)
    wait_until(lambda: Confirmation(where.root).read() is None)


def test_a_confirmed_apply_stays(where: Target, capsys: pytest.CaptureFixture[str]) -> None:
    apply_quietly(tiny(where, ONE), where)
    carry_out_confirmed(tiny(where, TWO), where, QUIETLY, within_s=0.5)
    assert "kloros-infra confirm" in capsys.readouterr().out
    confirm_apply(where)
    refuse_while_waiting(where)
    watchers = [p for p in Path("/proc").glob("[0-9]*/cmdline") if is_watcher(p, where)]
    wait_until(lambda: not any(is_watcher(path, where) for path in watchers))
    assert current(where) == 2


def is_watcher(cmdline: Path, where: Target) -> bool:
    try:
        return b"watch_confirmation" in (raw := cmdline.read_bytes()) and str(where.root).encode() in raw
    except OSError:
        return False


def test_an_apply_that_changes_nothing_waits_for_nobody(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    carry_out_confirmed(tiny(where, ONE), where, QUIETLY, within_s=60)
    assert Confirmation(where.root).read() is None


def test_an_apply_that_fails_waits_for_nobody(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    with pytest.raises(StepFailedError):
        carry_out_confirmed(broken(where, TWO), where, QUIETLY, within_s=60)
    assert Confirmation(where.root).read() is None


def test_an_apply_that_is_killed_before_its_confirmation_is_undone(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    pid = os.fork()
    if pid == 0:
        try:
            with apply_lock(where.root):
                Confirmation(where.root).begin(1)
                Confirmation(where.root).start_watcher(where.manager)
                generations_of(where).stage(2, {})
                generations_of(where).flip(2)
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    wait_until(lambda: current(where) == 1)
    wait_until(lambda: Confirmation(where.root).read() is None)
    with apply_lock(where.root, wait_s=WAIT_S):
        assert running(where, ALL) == ONE
