"""What the service manager says that it did with units: from the supervisor's log, or from systemd's journal."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from kloros_infra.adapters.systemd import run_journalctl
from kloros_infra.ir.event import Event
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.supervision import log_file

# The form of `supervisor.__main__`: local time.
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) [A-Z]+ (.*)")


def supervisor_events(root: Path, count: int) -> tuple[Event, ...]:
    """Give the last events of a root's embedded supervisor; none where it never ran."""
    try:
        text = (root / Layout().logs / log_file("supervisor")).read_text(errors="replace")
    except FileNotFoundError:
        return ()
    found = (_LINE.fullmatch(line) for line in text.splitlines()[-count:])
    return tuple(Event(_utc(*one.group(1, 2)), "supervisor", one[3]) for one in found if one)


def systemd_events(units: Collection[str], count: int) -> tuple[Event, ...]:
    """Give the last messages of systemd about units; none where its journal cannot be read."""
    if not units:
        return ()
    about = (f"UNIT={unit}" for unit in sorted(units))
    lines = run_journalctl("-q", "-o", "json", "-n", str(count), "--no-pager", "_PID=1", *about)
    return tuple(_journal_events(lines))


def _journal_events(lines: Iterable[str]) -> Iterator[Event]:
    for line in lines:
        entry = json.loads(line)
        # systemd.journal-fields(7): microseconds since 1970, as text; a message that is no text comes as bytes.
        moment = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        if isinstance(entry.get("MESSAGE"), str):
            yield Event(moment.isoformat(timespec="milliseconds"), "systemd", entry["MESSAGE"])


def _utc(second: str, milliseconds: str) -> str:
    local = datetime.fromisoformat(second).astimezone().replace(microsecond=1000 * int(milliseconds))
    return local.astimezone(UTC).isoformat(timespec="milliseconds")
