"""Generations when the process is killed at each system call that changes the disk: whole ones, and one current."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.generations import GenerationFolders
from kloros_infra.ir.artifact import Artifact, TextFile
from tests.needed import need

# What the change below does, and how often; each is killed on entry, so the call before it was the last.
CALLS = {"write": 3, "fsync": 9, "fchmod": 3, "rename": 4, "symlink": 2, "unlinkat": 4, "rmdir": 1, "mkdir": 3}
FILES: dict[str, Artifact] = {name: TextFile(f"{name}\n" * 500) for name in ("units/a", "units/b", "manifest.json")}

CHANGE = """
import sys
from pathlib import Path
from kloros_infra.adapters.generations import GenerationFolders
from kloros_infra.ir.artifact import TextFile
files = {name: TextFile(f"{name}\\n" * 500) for name in ("units/a", "units/b", "manifest.json")}
generations = GenerationFolders(Path(sys.argv[1]))
generations.stage(3, files)
generations.flip(3)
generations.mark_last_good(3)
generations.remove(1)
"""


@pytest.fixture(autouse=True)
def a_killer() -> None:
    need(shutil.which("strace") is not None, "strace, which delivers the kills")
    need(platform.machine() == "x86_64", "x86_64: other machines have other names for some of the calls")


def change(root: Path, call: str, kill_at: int) -> int:
    """Run the change under strace and kill it when it enters a system call for the n-th time."""
    inject = f"inject={call}:signal=KILL:when={kill_at}"
    strace = ["strace", "-f", "-qq", "-o", str(root.with_suffix(".log")), "-e", f"trace={call}", "-e", inject]
    # Coverage would measure the child too, and write files of its own.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    argv = [*strace, sys.executable, "-B", "-c", CHANGE, str(root)]
    return subprocess.run(argv, check=False, env=environment).returncode


@pytest.mark.parametrize("call", CALLS)
def test_every_kill_leaves_whole_generations_and_one_of_them_current(tmp_path: Path, call: str) -> None:
    kills = 0
    for kill_at in range(1, 40):
        root = tmp_path / str(kill_at)
        generations = GenerationFolders(root)
        for number in (1, 2):
            generations.stage(number, FILES)
        generations.flip(2)
        if change(root, call, kill_at) == 0:
            break
        kills += 1
        history = generations.history()
        assert history.current in (2, 3)
        assert history.current in history.numbers
        assert history.last_good in (None, 3)
        for number in history.numbers:
            assert {name: generations.read(number, name) for name in FILES} == FILES
        generations.stage(4, FILES)
        assert not [path for path in (root / "etc/kloros-infra/generations").iterdir() if path.name.startswith(".")]
    assert kills == CALLS[call]
