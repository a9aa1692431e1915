"""The version of systemd, as it says itself, held against the one that units are written for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kloros_infra.adapters.systemd_analyze import SystemdAnalyze
from kloros_infra.adapters.systemd_version import check_version, installed_systemd
from kloros_infra.compiler.limits import RESTART_STEPS_SINCE
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from tests.emit_cases import EMIT_CASES, compile_case
from tests.needed import need


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin")


def test_the_real_one_says_what_its_package_is() -> None:
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    found = re.match(r"systemd (\d+)", said)
    assert found
    assert installed_systemd() == int(found[1])


def test_a_newer_one_is_read_by_the_same_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'systemd 258 (258~rc1-1)'; echo '+PAM +AUDIT'")
    assert installed_systemd() == 258


def test_who_has_none_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_systemd() is None
    stand_in(tmp_path, monkeypatch, "echo elogind 252; exit 1")
    assert installed_systemd() is None


def test_only_an_older_one_is_refused() -> None:
    assert check_version("box", declared=257, installed=None) == ()
    assert check_version("box", declared=252, installed=252) == ()
    assert check_version("box", declared=252, installed=258) == ()
    (problem,) = check_version("box", declared=257, installed=255)
    assert (problem.code, problem.is_error, problem.address) == ("KI557", True, "hosts.box.systemd")
    assert problem.hint == "Write `systemd: 255` below hosts.box."
    (problem,) = check_version("box", declared=254, installed=249)
    assert problem.hint == "Update systemd: 252 is the oldest that runs these units."


def test_an_older_systemd_refuses_what_only_newer_ones_know(tmp_path: Path) -> None:
    installed = installed_systemd()
    need(installed is not None, "systemctl")
    assert installed is not None
    case = next(case for case in EMIT_CASES if case.name == "relaxed_on_newer_systemd")
    unit = compile_case(case)[Layout().unit_path("llama@chat-mid.service")]
    assert isinstance(unit, TextFile)
    file = tmp_path / "llama@chat-mid.service"
    file.write_text(unit.text)
    found = SystemdAnalyze().verify([file], coming=[f"/{Layout().program_path('llama-server')}"])
    assert bool(found) is (installed < 257)
    assert ("RestartSteps" in str(found)) is (installed < RESTART_STEPS_SINCE)
