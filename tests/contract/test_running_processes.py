"""What /proc says of a process: real ones, and folders in its form."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kloros_infra.adapters.running_processes import ProcProcesses

SECRETS = {"HF_TOKEN": "s3cret", "LLAMA_API_KEY": "s3cret"}
ENVIRONMENT = {"LLAMA_ARG_PORT": "8601", "LLAMA_ARG_X": "a=b é", "OTHER": "1", **SECRETS}
WAITS = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", WAITS, "", "two words", "é"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        # Popen returns as exec(2) closes its pipe, a moment before the kernel shows the new command line.
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's rights for a while; without them there is nothing to give up."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_a_process_is_seen_as_it_was_started(process: subprocess.Popen[bytes]) -> None:
    found = ProcProcesses().running(process.pid, names=("OTHER", "ABSENT"), prefixes=("LLAMA_ARG_",))
    assert found is not None
    assert found.argv == (sys.executable, "-c", WAITS, "", "two words", "é")
    assert found.environment == {"LLAMA_ARG_PORT": "8601", "LLAMA_ARG_X": "a=b é", "OTHER": "1"}
    assert found.cgroup.startswith("/")
    assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - found.started_s < 60


def test_nothing_is_told_of_variables_that_nobody_asked_for(process: subprocess.Popen[bytes]) -> None:
    found = ProcProcesses().running(process.pid)
    assert found is not None
    assert found.environment == {}


def test_secrets_are_not_told_whoever_asks(process: subprocess.Popen[bytes]) -> None:
    found = ProcProcesses().running(process.pid, names=SECRETS, prefixes=("LLAMA_", "HF_"))
    assert found is not None
    assert found.environment is not None
    assert found.environment.keys() == {"LLAMA_ARG_PORT", "LLAMA_ARG_X"}


def test_a_process_that_is_gone_is_none(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    # It is a zombie until it is waited for: os.waitid leaves it one.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ProcProcesses().running(process.pid) is None
    process.wait()
    assert ProcProcesses().running(process.pid) is None


def folder(proc: Path, *, cgroup: str = "0::/a\n", stat: str = "1 (a) b) c) S" + " 0" * 18 + " 500 0") -> Path:
    """Write a process in /proc's form; its name holds brackets and blanks."""
    home = proc / "42"
    home.mkdir()
    (home / "stat").write_text(stat)
    (home / "cmdline").write_bytes(b"/bin/x\0\xff\0")
    (home / "environ").write_bytes(b"A=1\0B=\xff\0")
    (home / "cgroup").write_text(cgroup)
    return home


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0::/kloros-llm.slice/llama@a-max.service\n", "/kloros-llm.slice/llama@a-max.service"),
        ("12:pids:/x\n1:name=systemd:/system.slice/a.service\n", "/system.slice/a.service"),
        ("4:memory:/x\n", ""),
    ],
)
def test_the_cgroup_is_the_one_that_systemd_places_it_in(tmp_path: Path, text: str, place: str) -> None:
    folder(tmp_path, cgroup=text)
    found = ProcProcesses(tmp_path).running(42)
    assert found is not None
    assert found.cgroup == place


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    folder(tmp_path)
    found = ProcProcesses(tmp_path).running(42, names=("B",))
    assert found is not None
    assert os.fsencode(found.argv[1]) == b"\xff"
    assert found.environment is not None
    assert os.fsencode(found.environment["B"]) == b"\xff"
    assert found.started_s == 500 / os.sysconf("SC_CLK_TCK")


def test_variables_of_another_user_are_not_known() -> None:
    with as_nobody():
        found = ProcProcesses().running(1)
    assert found is not None
    assert found.environment is None


def test_a_process_that_ends_while_it_is_read_is_none(tmp_path: Path) -> None:
    (folder(tmp_path) / "cgroup").unlink()
    assert ProcProcesses(tmp_path).running(42) is None
    assert ProcProcesses(tmp_path).running(43) is None
