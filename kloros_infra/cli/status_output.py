"""The status of an installation as lines: a table like `ollama ps`, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime

from kloros_infra.cli.gpu_views import summary_lines
from kloros_infra.cli.table import table
from kloros_infra.ir.control import STOPPED
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.ir.unit_status import CardUse, Remedy, Status, Unconfirmed, UnitStatus
from kloros_infra.planner.figures import seconds_text, size_text

VERSION = 1
HEADER = ("NAME", "PROFILE", "STATE", "PID", "VRAM", "CONTEXT", "SLOTS BUSY", "UNTIL", "LAST ERROR")
NOTHING = "-"
STOPPED_FOR: Mapping[StopCause | None, str] = {
    StopCause.IDLE: "idle",
    StopCause.ROOM: "others need its memory",
    StopCause.ASKED: "by modelctl",
    StopCause.CRASH: "has crashed",
}
REMEDIES = {
    Remedy.COMPLETE: "It had switched already: `kloros-infra recover`, or the next apply, completes it.",
    Remedy.UNDO: "It had not switched yet: `kloros-infra recover` undoes it.",
}


def status_json(status: Status) -> str:
    """Write all of it as one versioned object."""
    gpus = None if status.cards is None else status.cards.model_dump(mode="json")
    return json.dumps({"version": VERSION, **asdict(replace(status, cards=None)), "cards": gpus})


def status_lines(status: Status, now: datetime | None = None) -> Iterator[str]:
    """Write what is current, what was interrupted, and one row for each unit; times are said as seen from `now`."""
    if status.generation is None:
        yield "Nothing is installed here."
    else:
        good = "" if status.generation == status.last_good else ", which has not been found good"
        yield f"Generation {status.generation}{good}, profile {status.profile}."
    if status.cards is not None:
        yield from summary_lines(status.cards, now or datetime.now().astimezone())
    if status.apply_in_work is not None:
        yield f"An apply is at work: {status.apply_in_work}."
    if status.interrupted is not None and status.remedy is not None:
        at = f" ({status.interrupted.at})" if status.interrupted.at else ""
        yield f"An apply was interrupted at: {status.interrupted.step}{at}. {REMEDIES[status.remedy]}"
    if status.unconfirmed is not None:
        yield _unconfirmed(status.unconfirmed)
    if status.units:
        yield from table([HEADER, *map(_row, status.units)])


def _unconfirmed(waiting: Unconfirmed) -> str:
    goes_to = "to no generation" if waiting.previous is None else f"to generation {waiting.previous}"
    if waiting.left_s is not None and waiting.left_s > 0:
        left = seconds_text(waiting.left_s)
        return f"The last apply is undone in {left}, {goes_to}, unless you run `kloros-infra confirm`."
    return f"The last apply was not confirmed; it is being undone, {goes_to}. If not, run `kloros-infra recover`."


def _row(unit: UnitStatus) -> tuple[str, ...]:
    return (
        unit.name,
        unit.profile or NOTHING,
        _state(unit),
        str(unit.main_pid or NOTHING),
        "CPU" if unit.is_on_cpu else ", ".join(map(_card, unit.cards)) or NOTHING,
        NOTHING if unit.context_tokens is None else str(unit.context_tokens),
        _slots(unit),
        unit.until,
        unit.last_error or NOTHING,
    )


def _state(unit: UnitStatus) -> str:
    why = STOPPED_FOR.get(unit.stopped_for) if unit.state == STOPPED else None
    return unit.state if why is None else f"{unit.state} ({why})"


def _card(use: CardUse) -> str:
    about = "" if use.is_measured else "~"
    return f"{use.card} {about}{size_text(use.used_bytes)}"


def _slots(unit: UnitStatus) -> str:
    """Requests beyond the slots wait."""
    if unit.slots is None or unit.requests is None:
        return NOTHING
    waiting = max(0, unit.requests - unit.slots)
    return f"{unit.requests - waiting}/{unit.slots}" + (f", {waiting} waiting" if waiting else "")
