"""An edit that is killed at each system call that changes the disk: every file is the old one or the new one."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.models_file import edit_models_files
from kloros_infra.editing.edits import SetValue, model_at
from tests.needed import need

PART = 'models:\n  - id: a  # kept\n    current_version: "1"\n'
ROOT = "include: [a.yaml]\npurposes:\n  fast: {candidates: [a]}\n"
NEW_PART = PART.replace('"1"', '"2"')
NEW_ROOT = ROOT + "  slow: {candidates: [a]}\n"
# What the edit below does, and how often; each is killed on entry, so the call before it was the last.
CALLS = {"write": 2, "fchmod": 2, "fsync": 4, "rename": 2, "unlink": 4}

EDIT = """
import sys
from pathlib import Path
from kloros_infra.adapters.models_file import edit_models_files
from kloros_infra.editing.edits import SetValue, model_at
edits = [
    SetValue((*model_at("a"), "current_version"), "2"),
    SetValue(("purposes", "slow"), {"candidates": ["a"]}),
]
root = Path(sys.argv[1])
edit_models_files([root, root.with_name("a.yaml")], lambda texts: edits, check=lambda texts: ())
"""


@pytest.fixture(autouse=True)
def a_killer() -> None:
    need(shutil.which("strace") is not None, "strace, which delivers the kills")
    need(platform.machine() == "x86_64", "x86_64: other machines have other names for some of the calls")


def edit_and_kill(root: Path, call: str, kill_at: int) -> int:
    """Run the edit under strace and kill it when it enters a system call for the n-th time."""
    inject = f"inject={call}:signal=KILL:when={kill_at}"
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    # Coverage would measure the child too, and write files of its own.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    argv = [*strace, sys.executable, "-B", "-c", EDIT, str(root)]
    return subprocess.run(argv, check=False, env=environment).returncode


def edit_again(root: Path) -> None:
    """Edit both files, as the next command would."""
    edits = (SetValue((*model_at("a"), "current_version"), "3"), SetValue(("version",), 1))
    edit_models_files([root, root.with_name("a.yaml")], lambda _: edits, check=lambda _: ())


@pytest.mark.parametrize("call", CALLS)
def test_every_kill_leaves_whole_files_in_the_right_order(tmp_path: Path, call: str) -> None:
    kills = 0
    for kill_at in range(1, 20):
        root = tmp_path / str(kill_at) / "models.yaml"
        part = root.with_name("a.yaml")
        root.parent.mkdir()
        root.write_text(ROOT)
        part.write_text(PART)
        if edit_and_kill(root, call, kill_at) == 0:
            break
        kills += 1
        found = (part.read_text(), root.read_text())
        # What names something comes after what it names.
        assert found in ((PART, ROOT), (NEW_PART, ROOT), (NEW_PART, NEW_ROOT))
        edit_again(root)
        assert sorted(path.name for path in root.parent.iterdir()) == ["a.yaml", "models.yaml"]
    assert kills == CALLS[call]
    assert (part.read_text(), root.read_text()) == (NEW_PART, NEW_ROOT)
