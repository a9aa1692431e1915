"""Streams that are closed, or not there at all, end no command with a traceback."""

from __future__ import annotations

import io
import sys

import click
import pytest

from kloros_infra.cli.terminal import NOBODY, confirm, is_colored, is_terminal


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


def test_a_stream_that_is_not_there_is_no_terminal() -> None:
    closed = io.StringIO()
    closed.close()
    assert [is_terminal(stream) for stream in (None, closed, io.StringIO(), Terminal())] == [False, False, False, True]


def test_only_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, colored in ((None, False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stdout", stream)
        assert is_colored() is colored


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    confirm("Do it?", yes=False)


def test_only_yes_is_yes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, "yes\n")
    assert "Do it?" in capsys.readouterr().out
    for other in ("y\n", "\n", "no\n"):
        with pytest.raises(click.ClickException, match="Cancelled"):
            answer(monkeypatch, other)


def test_who_said_yes_before_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    confirm("Do it?", yes=True)


def test_nobody_is_not_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(click.ClickException) as ended:
        answer(monkeypatch, "")
    assert ended.value.message == NOBODY
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(click.ClickException) as lost:
        confirm("Do it?", yes=False)
    assert lost.value.message == NOBODY


def test_an_interruption_is_no_end_of_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.TextIOBase):
        def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # as TextIOBase has it
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    with pytest.raises(click.Abort):
        confirm("Do it?", yes=False)
