"""What the service manager did, as its own record tells it: a supervisor's log, and journalctl's JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kloros_infra.adapters.manager_events import supervisor_events, systemd_events
from kloros_infra.ir.event import Event
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import log_file

UNITS = ("llama@code-max.service", "kloros-bus.service")


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the machine two hours east of Greenwich."""
    monkeypatch.setenv("TZ", "EAST-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def write_log(root: Path, text: str) -> None:
    file = root / Layout().logs / log_file("supervisor")
    file.parent.mkdir(parents=True)
    file.write_text(text)


@pytest.mark.usefixtures("east")
def test_a_supervisor_s_log_is_told_in_utc(tmp_path: Path) -> None:
    write_log(tmp_path, "2026-01-02 01:30:00,123 INFO a.service: started\nTraceback, which is no event\n")
    assert supervisor_events(tmp_path, 10) == (
        Event("2026-01-01T23:30:00.123+00:00", "supervisor", "a.service: started"),
    )


def test_of_a_supervisor_s_log_the_last_lines_are_told(tmp_path: Path) -> None:
    write_log(tmp_path, "".join(f"2026-01-02 01:30:0{n},000 INFO number {n}\n" for n in range(5)))
    assert [event.text for event in supervisor_events(tmp_path, 2)] == ["number 3", "number 4"]


def test_a_supervisor_that_never_ran_did_nothing(tmp_path: Path) -> None:
    assert supervisor_events(tmp_path, 10) == ()


def with_journalctl(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: list[dict[str, object]]) -> Path:
    """Put a program on PATH that answers as journalctl does; give the file with what it was asked."""
    answer, asked = folder / "answer", folder / "asked"
    answer.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    program = folder / "journalctl"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {asked}\ncat {answer}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return asked


def test_systemd_s_messages_about_our_units_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[dict[str, object]] = [
        {"__REALTIME_TIMESTAMP": "1767310200123456", "MESSAGE": "Started a."},
        # Bytes that are no text come as numbers.
        {"__REALTIME_TIMESTAMP": "1767310201000000", "MESSAGE": [255, 254]},
        {"__REALTIME_TIMESTAMP": "1767310202000000"},
    ]
    asked = with_journalctl(tmp_path, monkeypatch, entries)
    assert systemd_events(UNITS, 7) == (Event("2026-01-01T23:30:00.123+00:00", "systemd", "Started a."),)
    words = asked.read_text().splitlines()
    assert words[words.index("-n") + 1] == "7"
    assert words[-3:] == ["_PID=1", "UNIT=kloros-bus.service", "UNIT=llama@code-max.service"]


def test_without_units_systemd_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = with_journalctl(tmp_path, monkeypatch, [])
    assert systemd_events((), 7) == ()
    assert not asked.exists()


def test_without_a_journal_there_are_no_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert systemd_events(UNITS, 7) == ()
