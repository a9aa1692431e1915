"""What a person sees while weights are read."""

from __future__ import annotations

import io
import sys

import pytest

from kloros_infra.cli.locking import ReadingDisplay


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
