"""`kloros-infra generations`: what a machine keeps, as a table or as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

import click

from kloros_infra.cli.table import echo_table
from kloros_infra.cli.wiring import Target, generations_of
from kloros_infra.executor.generations import manifest_at
from kloros_infra.ir.generation import History, Manifest
from kloros_infra.planner.explain_json import Row, json_lines
from kloros_infra.planner.generation_text import what_differs

HEADER = ("GENERATION", "MADE", "MARKS", "COMMIT", "WHAT CHANGED")


def list_generations(where: Target, *, as_json: bool = False) -> None:
    """Print one row for each generation."""
    rows = tuple(_rows(where))
    if as_json:
        for line in json_lines(rows):
            click.echo(line)
    elif rows:
        echo_table([HEADER, *map(_cells, rows)])
    else:
        click.echo("There are no generations yet: apply makes the first one.")


def _rows(where: Target) -> Iterator[Row]:
    generations = generations_of(where)
    history = generations.history()
    before: Manifest | None = None
    for number in history.numbers:
        manifest = manifest_at(generations, number)
        made = None if manifest is None else manifest.provenance
        yield {
            "type": "generation",
            "number": number,
            "made_at": made and made.made_at,
            "commit": made and made.commit,
            "marks": _marks(number, history),
            "is_damaged": manifest is None,
            "what_changed": "its manifest is damaged" if manifest is None else what_differs(before, manifest),
        }
        before = manifest


def _cells(row: Row) -> tuple[str, ...]:
    marks = row["marks"]
    shown = ", ".join(marks) if isinstance(marks, tuple) else ""
    return tuple(
        str(cell or "-") for cell in (row["number"], row["made_at"], shown, row["commit"], row["what_changed"])
    )


def _marks(number: int, history: History) -> tuple[str, ...]:
    marks = {"current": history.current, "last-good": history.last_good, "booted": history.booted}
    return tuple(name for name, marked in marks.items() if marked == number)
