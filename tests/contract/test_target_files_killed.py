"""Real files when the process is killed at each system call that changes the disk: the old file or the new one."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.observed import Installed
from tests.needed import need


@pytest.fixture(autouse=True)
def a_killer() -> None:
    need(shutil.which("strace") is not None, "strace, which delivers the kills")
    need(platform.machine() == "x86_64", "x86_64: other machines have other names for some of the calls")


# What the change below does, and how often; each is killed on entry, so the call before it was the last.
CALLS = {"write": 3, "fsync": 9, "fchmod": 3, "rename": 4, "symlink": 1, "unlink": 5, "mkdir": 1}
OLD, NEW = TextFile("old\n" * 1000), TextFile("new\n" * 1000, 0o755)
A_DIGEST = "ab" * 32

CHANGE = f"""
import sys
from pathlib import Path
from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.observed import Installed
files = RootedFiles(Path(sys.argv[1]))
files.record_installed(Installed({{"etc/a": "{A_DIGEST}", "etc/new/b": "{A_DIGEST}"}}, is_unfinished=True))
files.write("etc/a", TextFile("new\\n" * 1000, 0o755))
files.write("etc/new/b", Link("../a"))
files.remove("etc/c")
files.record_installed(Installed({{"etc/a": "{A_DIGEST}", "etc/new/b": "{A_DIGEST}"}}))
"""


def change(root: Path, call: str, kill_at: int) -> int:
    """Run the change under strace and kill it when it enters a system call for the n-th time."""
    inject = f"inject={call}:signal=KILL:when={kill_at}"
    strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(root.with_suffix(".log")),
        "-e",
        f"trace={call}",
        "-e",
        inject,
    ]
    # Coverage would measure the child too, and write files of its own.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    argv = [*strace, sys.executable, "-B", "-c", CHANGE, str(root)]
    return subprocess.run(argv, check=False, env=environment).returncode


@pytest.mark.parametrize("call", CALLS)
def test_every_kill_leaves_whole_files_and_a_record_that_knows_them(tmp_path: Path, call: str) -> None:
    kills = 0
    for kill_at in range(1, 20):
        root = tmp_path / str(kill_at)
        files = RootedFiles(root)
        files.write("etc/a", OLD)
        files.write("etc/c", OLD)
        files.record_installed(Installed({"etc/a": A_DIGEST}))
        if change(root, call, kill_at) == 0:
            break
        kills += 1
        assert files.read("etc/a") in (OLD, NEW)
        assert files.read("etc/new/b") in (None, Link("../a"))
        assert files.read("etc/c") in (OLD, None)
        known = files.installed()
        assert files.read("etc/new/b") is None or "etc/new/b" in known.digests
        files.record_installed(Installed(known.digests))
        assert not list(root.rglob("*.kloros-tmp"))
    assert kills == CALLS[call]
