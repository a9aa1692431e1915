"""An apply that meets a full disk, at each write of its own: the machine stays as it was, or is brought back to it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kloros_infra.cli.history import recover
from kloros_infra.cli.wiring import Target
from kloros_infra.errors import KlorosError
from tests.fakes.small_disk import a_small_disk, can_mount
from tests.needed import need
from tests.tiny_site import ALL, ONE, QUIETLY, TWO, apply_quietly, end, running, target_at, tiny, tree_of

PAGE = 4096
ENOUGH = 2**24


@pytest.fixture
def where(where: Target) -> Target:
    apply_quietly(tiny(where, ONE), where)
    return where


def applies(where: Target, limit: Callable[[], object] = lambda: None) -> bool:
    """Apply in a process of its own, under a limit; say whether that was done, or else failed as it should."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            limit()
            try:
                apply_quietly(tiny(where, TWO), where)
                status = 0
            except (KlorosError, OSError):
                status = 3
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 3)
    return code == 0


def current_files(where: Target) -> dict[str, str]:
    return tree_of((where.root / where.layout.current).resolve())


def test_every_file_that_cannot_grow_loses_nothing(where: Target) -> None:
    before = tree_of(where.root / "etc")

    def with_files_up_to(size: int) -> Callable[[], object]:
        def limit() -> None:
            # setrlimit(2): a write beyond the limit fails with EFBIG once the signal is ignored, one across it is cut.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        return limit

    failures = 0
    # Every file grows past one of these sizes at a write of its own, the journal at nearly every line.
    for size in (*range(0, 800, 61), *range(800, 8000, 400)):
        if applies(where, with_files_up_to(size)):
            break
        failures += 1
        recover(where, QUIETLY)
        assert tree_of(where.root / "etc") == before
        assert running(where, ALL) == ONE
    assert failures > 10
    assert running(where, ALL) == TWO


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Target]:
    need(can_mount(tmp_path), "rights to mount a file system")
    with a_small_disk(tmp_path, ENOUGH):
        one = target_at(tmp_path / "root")
        apply_quietly(tiny(one, ONE), one)
        yield one
        end(one)


def leave_free(disk: Path, what: str, free: int) -> None:
    """Leave so many pages, or so many files, on the disk; tmpfs(5)."""
    facts = os.statvfs(disk)
    taken = (facts.f_blocks - facts.f_bfree) if what == "size" else (facts.f_files - facts.f_ffree)
    value = (taken + free) * (PAGE if what == "size" else 1)
    subprocess.run(["mount", "-o", f"remount,{what}={value}", str(disk)], check=True)


@pytest.mark.parametrize("what", ["size", "nr_inodes"])
def test_a_disk_that_fills_up_at_any_write_loses_nothing(small: Target, tmp_path: Path, what: str) -> None:
    before, files = tree_of(small.root / "etc"), current_files(small)
    failures = 0
    for free in range(100):
        leave_free(tmp_path, what, free)
        is_done = applies(small)
        # Also while there is no room.
        assert running(small, ALL) == (TWO if is_done else ONE), free
        assert is_done or current_files(small) == files, free
        leave_free(tmp_path, what, ENOUGH // PAGE)
        if is_done:
            break
        failures += 1
        recover(small, QUIETLY)
        assert tree_of(small.root / "etc") == before, free
        assert running(small, ALL) == ONE, free
    assert failures > 5
    assert running(small, ALL) == TWO
