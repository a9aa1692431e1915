"""What applies and the service manager did to a target, in order of time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from kloros_infra.adapters.manager_events import supervisor_events, systemd_events
from kloros_infra.cli.table import table
from kloros_infra.cli.wiring import ManagerChoice, Target, generations_of, journal_of
from kloros_infra.executor.generations import current_manifest
from kloros_infra.executor.journal_events import journal_events
from kloros_infra.ir.event import Event

VERSION = 1


def read_events(where: Target, count: int) -> tuple[Event, ...]:
    """Give the last events, newest last."""
    manifest = current_manifest(generations_of(where))
    units = () if manifest is None else tuple(unit.unit for unit in manifest.units)
    is_systemd = where.manager is ManagerChoice.SYSTEMD
    of_manager = systemd_events(units, count) if is_systemd else supervisor_events(where.root, count)
    return in_order(journal_events(journal_of(where).applies()), of_manager)[-count:]


def in_order(*sources: Iterable[Event]) -> tuple[Event, ...]:
    """Put events of several sources in order of time; a clock that was set back turns none of one source around."""
    keyed: list[tuple[str, Event]] = []
    for events in sources:
        latest = ""
        for event in events:
            latest = max(latest, event.at)
            keyed.append((latest, event))
    return tuple(event for _, event in sorted(keyed, key=lambda one: one[0]))


def event_lines(events: tuple[Event, ...], *, as_json: bool) -> Iterator[str]:
    """Write one event a line."""
    if as_json:
        yield from (json.dumps({"version": VERSION, **asdict(event)}) for event in events)
    elif events:
        yield from table([(event.at, event.source, event.text) for event in events])
