"""The terminal, which may not be there: streams that are closed, or that Python could not open, are None."""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

import click

NOBODY = "Nobody answered, so nothing was changed. Where nobody can, give --yes."


def terminal_width() -> int:
    """Say how many columns there are, 80 where that is not known."""
    return shutil.get_terminal_size().columns


def is_terminal(stream: TextIO | None) -> bool:
    """Say whether somebody may be looking at a stream."""
    return stream is not None and not stream.closed and stream.isatty()


def is_colored() -> bool:
    """Say whether standard output takes colours."""
    return is_terminal(sys.stdout)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before acting, as only `yes` may answer; end the command on anything else."""
    if yes:
        return
    if sys.stdin is None or sys.stdout is None:
        raise click.ClickException(NOBODY)
    try:
        answer = click.prompt(f"\n{question}\n  Only 'yes' will be accepted", default="", show_default=False)
    except click.Abort as error:
        # Ctrl-C is a person's answer; the end of the input is nobody's.
        if isinstance(error.__context__, EOFError):
            raise click.ClickException(NOBODY) from error
        raise
    if answer != "yes":
        raise click.ClickException("Cancelled. Nothing was changed.")
