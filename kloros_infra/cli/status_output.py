"""The status of an installation as lines: a table like `ollama ps`, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from kloros_infra.cli.table import table
from kloros_infra.ir.unit_status import CardUse, Status, UnitStatus
from kloros_infra.planner.figures import size_text

VERSION = 1
HEADER = ("NAME", "PROFILE", "STATE", "PID", "VRAM", "CONTEXT", "SLOTS BUSY", "UNTIL", "LAST ERROR")
NOTHING = "-"


def status_json(status: Status) -> str:
    """Write all of it as one versioned object."""
    return json.dumps({"version": VERSION, **asdict(status)})


def status_lines(status: Status) -> Iterator[str]:
    """Write what is current, what was interrupted, and one row for each unit."""
    if status.generation is None:
        yield "Nothing is installed here."
    else:
        good = "" if status.generation == status.last_good else ", which has not been found good"
        yield f"Generation {status.generation}{good}, profile {status.profile}."
    if status.interrupted is not None:
        at = f" ({status.interrupted.at})" if status.interrupted.at else ""
        yield f"An apply was interrupted at: {status.interrupted.step}{at}. Run `kloros-infra recover`."
    if status.units:
        yield from table([HEADER, *map(_row, status.units)])


def _row(unit: UnitStatus) -> tuple[str, ...]:
    return (
        unit.name,
        unit.profile or NOTHING,
        unit.state,
        str(unit.main_pid or NOTHING),
        "CPU" if unit.is_on_cpu else ", ".join(map(_card, unit.cards)) or NOTHING,
        NOTHING if unit.context_tokens is None else str(unit.context_tokens),
        _slots(unit),
        unit.until,
        unit.last_error or NOTHING,
    )


def _card(use: CardUse) -> str:
    about = "" if use.is_measured else "~"
    return f"{use.card} {about}{size_text(use.used_bytes)}"


def _slots(unit: UnitStatus) -> str:
    """Requests beyond the slots wait."""
    if unit.slots is None or unit.requests is None:
        return NOTHING
    waiting = max(0, unit.requests - unit.slots)
    return f"{unit.requests - waiting}/{unit.slots}" + (f", {waiting} waiting" if waiting else "")
