"""Progress of an apply: one line a step; on a terminal the line in work is rewritten in place."""

from __future__ import annotations

import sys
from contextlib import suppress

import click

from kloros_infra.cli.render import show_problems
from kloros_infra.cli.terminal import is_terminal
from kloros_infra.diagnostics import Problems
from kloros_infra.planner.figures import size_text


class ProgressDisplay:
    """Writes to standard error, so that standard output stays a result.

    A terminal that was closed must not keep an apply from undoing itself: what cannot be written is left out.
    """

    def __init__(self) -> None:
        self._is_terminal = is_terminal(sys.stderr)
        self._has_open_line = False
        self._last_text = ""

    def step(self, index: int, total: int, text: str) -> None:
        """Say which step begins."""
        self._close_line()
        width = len(str(total))
        _echo(click.style(f"[{index + 1:>{width}}/{total}] ", fg="cyan") + text)

    def progress(self, done: int, total: int) -> None:
        """Show how far a long step is; silent where lines cannot be rewritten."""
        if self._is_terminal and total:
            self._rewrite(f"      {done * 100 // total:>3} % of {size_text(total)}")

    def long_step(self, text: str, done: int, total: int) -> None:
        """Show how far a named step is; without a terminal, say once that it began."""
        if self._is_terminal:
            self._rewrite(f"{text}: {done * 100 // max(1, total):>3} % of {size_text(total)}")
        elif text != self._last_text:
            _echo(text)
        self._last_text = text

    def waiting(self, text: str, elapsed_s: float) -> None:
        """Show what is waited for and since when."""
        if self._is_terminal:
            self._rewrite(f"      {text} {elapsed_s:.0f} s")

    def warn(self, problems: Problems) -> None:
        """Show what did not stop a step."""
        self._close_line()
        with suppress(OSError):
            show_problems(problems, {})

    def close(self) -> None:
        """End an open line."""
        self._close_line()

    def _rewrite(self, text: str) -> None:
        # ECMA-48: CR, then EL (erase to the end of the line).
        _echo(f"\r\x1b[K{text}", ends_line=False)
        self._has_open_line = True

    def _close_line(self) -> None:
        if self._has_open_line:
            _echo("\r\x1b[K", ends_line=False)
            self._has_open_line = False


def _echo(text: str, *, ends_line: bool = True) -> None:
    with suppress(OSError):
        click.echo(text, nl=ends_line, err=True)
