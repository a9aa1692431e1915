"""The llama-server that is asked what it needs does not outlive who asks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kloros_infra.adapters.memory_oracle import LlamaServerMemory
from kloros_infra.adapters.programs import Program
from kloros_infra.errors import UnreachableError
from tests.needed import need

ASKING = """
import sys
from pathlib import Path
from kloros_infra.adapters.memory_oracle import LlamaServerMemory
from kloros_infra.adapters.programs import Program

LlamaServerMemory(Program(sys.argv[1], None)).measured(Path(sys.argv[1]), {})
"""
PATIENCE_S = 20.0


def a_silent_server(folder: Path) -> tuple[Path, Path]:
    """Write a server that says nothing, and notes its process."""
    script, note = folder / "llama-server", folder / "pid"
    script.write_text(f"#!/bin/sh\necho $$ > '{note}.new'; mv '{note}.new' '{note}'\nexec sleep 300\n")
    script.chmod(0o755)
    return script, note


def is_there(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool]) -> None:
    """Poll a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the pause between two polls of a condition with a deadline


def test_it_ends_with_who_asks_even_when_that_one_is_killed(tmp_path: Path) -> None:
    need(any(Path(one, "setpriv").exists() for one in os.get_exec_path()), "setpriv (util-linux)")
    script, note = a_silent_server(tmp_path)
    with subprocess.Popen([sys.executable, "-c", ASKING, script]) as asking:
        until(note.exists)
        pid = int(note.read_text())
        assert is_there(pid)
        asking.kill()
    until(lambda: not is_there(pid))


def test_it_is_ended_when_the_time_is_over(tmp_path: Path) -> None:
    script, note = a_silent_server(tmp_path)
    with pytest.raises(UnreachableError):
        LlamaServerMemory(Program(str(script), None), timeout_s=2).measured(script, {})
    assert not is_there(int(note.read_text()))


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError) as caught:
        LlamaServerMemory(Program(str(tmp_path / "absent"), None)).measured(tmp_path, {})
    (problem,) = caught.value.problems
    assert problem.code == "KI430"
    assert "No such file or directory" in problem.detail
