"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align rows in columns, as `ollama list` and `systemctl` do."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def echo_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    for line in table(rows):
        click.echo(line)
