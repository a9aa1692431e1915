"""What a person sees while weights are read, and what is on disk when it stops."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from kloros_infra.cli.locking import NOTHING, Checkpoint, ReadingDisplay
from kloros_infra.compiler.parse_lock import Read
from kloros_infra.ir.lock import Lock, Origin, Pin
from tests.factories import a_lock, some_weights

LOCK = "models.lock.yaml"


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_all_are_together(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    display = ReadingDisplay()

    display.on_progress("a@1", 0, 1000)
    display.on_progress("b@1", 500, 1000)
    display.on_progress("a@1", 1000, 1000)
    display.close()

    shown = [line.removeprefix("\x1b[K") for line in terminal.getvalue().split("\r") if line]
    assert [line.partition(" of ")[0] for line in shown[:3]] == [
        "reading a@1:   0 %",
        "reading b@1 and 1 more:  25 %",
        "reading a@1:  75 %",
    ]
    assert shown[-1] == ""


def test_without_a_terminal_each_entry_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = ReadingDisplay()

    for key, done in (("a@1", 0), ("b@1", 0), ("a@1", 10), ("b@1", 10)):
        display.on_progress(key, done, 10)
    display.close()

    assert capsys.readouterr().err.splitlines() == ["reading a@1", "reading b@1"]


def test_what_is_pinned_is_on_disk_at_once_and_beside_what_was_there(tmp_path: Path) -> None:
    before = Read(a_lock(some_weights("old@1")), {}, ())
    kept = Checkpoint(tmp_path, before, {"old@1", "new@1"})

    kept.add(some_weights("new@1"))

    text = (tmp_path / LOCK).read_text()
    assert "old@1:" in text
    assert "new@1:" in text


def test_a_quick_row_of_entries_is_not_written_one_by_one_and_not_lost_either(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path, NOTHING, set())
    entries = [some_weights(f"m{number}@1") for number in range(30)]
    for entry in entries:
        kept.add(entry)

    assert "m0@1:" in (tmp_path / LOCK).read_text()
    kept.write_rest()

    assert all(f"{entry.key}:" in (tmp_path / LOCK).read_text() for entry in entries)


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    Checkpoint(tmp_path, NOTHING, set()).write_rest()

    assert not (tmp_path / LOCK).exists()


def test_a_lost_header_is_not_paid_for_with_its_pin(tmp_path: Path) -> None:
    pins = {"lost@1": Pin(("hf://o/r/m.gguf",), Origin.HUB, "c"), "gone@1": Pin(("hf://o/r/g.gguf",), Origin.HUB, "c")}
    kept = Checkpoint(tmp_path, Read(Lock({}), pins, ()), {"lost@1", "new@1"})

    kept.add(some_weights("new@1"))
    kept.write_rest()
    assert not (tmp_path / LOCK).exists()

    kept.add(some_weights("lost@1"))
    kept.write_rest()
    assert "new@1:" in (tmp_path / LOCK).read_text()
