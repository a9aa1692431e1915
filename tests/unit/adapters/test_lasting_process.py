"""Processes that nobody waits for."""

from __future__ import annotations

import sys
from pathlib import Path

from kloros_infra.adapters.lasting_process import own_words, spawn, unit_words
from tests.tiny_site import wait_until


def test_a_unit_has_a_name_where_there_shall_be_one_of_it() -> None:
    words = unit_words(("program", "word"), "What it does", unit="one.service")
    assert words[0] == "systemd-run"
    assert "--unit=one.service" in words
    assert words[-4:] == ("--description=What it does", "--", "program", "word")
    assert not [word for word in unit_words(("program",), "") if word.startswith(("--unit", "--no-block"))]
    assert "--no-block" in unit_words(("program",), "", waits=False)


def test_this_program_is_named_without_its_launcher() -> None:
    assert own_words("gpu", "replan") == (sys.executable, "-P", "-m", "kloros_infra", "gpu", "replan")


def test_what_a_process_says_is_appended_to_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    spawn(("/bin/sh", "-c", "echo said; echo told >&2"), log)
    wait_until(lambda: log.read_text() == "before\nsaid\ntold\n")


def test_a_process_that_ends_is_not_left_defunct(tmp_path: Path) -> None:
    spawn(("/bin/sh", "-c", "echo $$"), tmp_path / "log")
    wait_until(lambda: (tmp_path / "log").read_text().endswith("\n"))
    pid = (tmp_path / "log").read_text().strip()
    wait_until(lambda: not (Path("/proc") / pid).exists())
