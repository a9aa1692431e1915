"""The apply lock: one holder, whose name is told, and no way to go stale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from kloros_infra.adapters.apply_lock import LOCK_FILE, apply_lock, is_locked
from kloros_infra.errors import LockHeldError, ObstacleError

HOLD = """
import sys
from pathlib import Path
from kloros_infra.adapters.apply_lock import apply_lock
with apply_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(root: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLD, str(root)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_held_lock_names_its_holder_and_frees_when_it_ends(tmp_path: Path) -> None:
    with hold(tmp_path) as child:
        with pytest.raises(LockHeldError) as caught, apply_lock(tmp_path):
            pytest.fail("the lock was given twice")
        assert caught.value.exit_code == 5
        problem = caught.value.problems[0]
        assert problem.code == "KI512"
        assert f"pid {child.pid}, since 2" in problem.detail
        child.communicate("")
    with apply_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with hold(tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        with apply_lock(tmp_path):
            pass


def test_a_lock_can_be_taken_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), apply_lock(tmp_path):
        raise ZeroDivisionError
    with apply_lock(tmp_path):
        pass


def test_a_child_that_lives_on_does_not_keep_the_lock(tmp_path: Path) -> None:
    with apply_lock(tmp_path):
        pid = os.fork()
        if pid == 0:
            signal.pause()
    try:
        with apply_lock(tmp_path):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_whether_an_apply_is_at_work_can_be_asked_without_getting_in_its_way(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with hold(tmp_path) as child:
        assert is_locked(tmp_path)
        child.communicate("")
    assert (tmp_path / LOCK_FILE).exists()
    assert not is_locked(tmp_path)
    (tmp_path / LOCK_FILE).write_text("{")
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\xff"])
def test_a_holder_that_has_not_signed_yet_is_no_surprise(tmp_path: Path, text: str) -> None:
    with hold(tmp_path) as child:
        (tmp_path / LOCK_FILE).write_bytes(text.encode("latin-1"))
        with pytest.raises(LockHeldError, match="just begun"), apply_lock(tmp_path):
            pytest.fail("the lock was given twice")
        child.communicate("")


def test_a_root_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where a folder belongs")
    with pytest.raises(ObstacleError) as caught, apply_lock(tmp_path):
        pytest.fail("there is no lock file")
    assert caught.value.problems[0].code == "KI513"


def contend(root: str) -> bool:
    try:
        with apply_lock(Path(root)):
            busy = Path(root) / "busy"
            busy.touch(exist_ok=False)
            time.sleep(0.001)  # long enough for the other to come in, if it could: no test waits for it
            busy.unlink()
            return True
    except LockHeldError:
        return False


def test_two_at_once_never_both_hold_it(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        taken = list(pool.map(contend, [str(tmp_path)] * 100))
    assert any(taken)
    assert not (tmp_path / "busy").exists()
