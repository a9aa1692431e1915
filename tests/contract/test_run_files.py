"""Small files below /run, and the lock of a reconcile, on a real folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.reconcile_lock import reconcile_lock
from kloros_infra.adapters.run_files import MAX_BYTES, RunFiles
from kloros_infra.errors import LockHeldError
from kloros_infra.ir.layout import Layout

NAME = "run/kloros/gpu_profile"

HOLD = """
import sys
from pathlib import Path
from kloros_infra.adapters.reconcile_lock import reconcile_lock
with reconcile_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(root: Path) -> list[str]:
    return [path.name for path in (root / "run/kloros").iterdir()]


def test_a_file_is_replaced_only_where_it_says_something_else(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    files.write(NAME, "max\n")
    first = (tmp_path / NAME).stat()
    files.write(NAME, "max\n")
    assert (tmp_path / NAME).stat().st_mtime_ns == first.st_mtime_ns
    files.write(NAME, "mid\n")
    assert files.read(NAME) == "mid\n"
    assert (tmp_path / NAME).stat().st_ino != first.st_ino
    assert names(tmp_path) == ["gpu_profile"]


def test_others_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        RunFiles(tmp_path).write(NAME, "max\n")
    finally:
        os.umask(before)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o644


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    files.write(NAME, "max\n")
    # A process of the same number; and another, which may be about to rename it.
    (tmp_path / f"run/kloros/.gpu_profile.{os.getpid()}.kloros-tmp").write_text("mi")
    others = tmp_path / "run/kloros/.gpu_profile.1.kloros-tmp"
    others.write_text("mi")
    files.write(NAME, "mid\n")
    assert (files.read(NAME), sorted(names(tmp_path))) == ("mid\n", [others.name, "gpu_profile"])
    assert others.read_text() == "mi"


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    (tmp_path / NAME / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="gpu_profile"):
        files.write(NAME, "max\n")
    assert names(tmp_path) == ["gpu_profile"]


def test_what_is_no_text_reads_as_none(tmp_path: Path) -> None:
    files, place = RunFiles(tmp_path), tmp_path / NAME
    assert files.read(NAME) is None
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    assert files.read(NAME) == ""
    place.unlink()
    place.mkdir()
    assert files.read(NAME) is None
    place.rmdir()
    place.write_bytes(b"\xff\xfe")
    assert files.read(NAME) is None
    place.write_bytes(b" " * (MAX_BYTES + 1))
    assert files.read(NAME) is None


def test_a_flag_is_raised_and_lowered(tmp_path: Path) -> None:
    files, name = RunFiles(tmp_path), Layout().dirty_file
    assert not files.remove(name)
    files.touch(name)
    files.touch(name)
    assert files.exists(name)
    assert files.remove(name)
    assert not files.exists(name)


def test_one_process_at_a_time_holds_the_lock_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeldError) as refused, reconcile_lock(tmp_path, wait_s=0.05):
            pass
        assert [problem.code for problem in refused.value.problems] == ["KI907"]
        holder.kill()
        with reconcile_lock(tmp_path):
            pass
