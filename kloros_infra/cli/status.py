"""The table of `kloros-infra status` and `modelctl status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from kloros_infra.adapters.health import ServerHealth
from kloros_infra.cli.wiring import Target, choose_profile, observing_manager, profile_named
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.names import BUS_UNIT, ROUTER_UNIT
from kloros_infra.ir.observed import UnitState

ANSWER_TIMEOUT_S = 1.0


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align rows in columns, as `ollama list` and `systemctl` do."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def status_lines(catalog: Catalog, where: Target, profile: str | None) -> Iterator[str]:
    """Write the active profile and one row for each unit that can run under it."""
    active, reason = (profile_named(catalog, profile), "As asked.") if profile else choose_profile(catalog)
    yield f"Profile: {active}. {reason}"
    urls = unit_urls(catalog, active)
    manager = observing_manager(where)
    states = manager.states(tuple(urls)) if manager else {}
    header = ("UNIT", "STATE", "PID", "ANSWERS", "ADDRESS")
    yield from table([header, *(unit_row(unit, states.get(unit), urls[unit]) for unit in urls)])


def unit_urls(catalog: Catalog, profile: str) -> dict[str, str]:
    """Map the units that can run under a profile to the address that tells whether they answer."""
    instances = [one for one in catalog.instances if one.profile.name == profile]
    return {
        **({BUS_UNIT: catalog.bus.xpub} if catalog.bus.is_managed else {}),
        **{one.id.unit: f"http://127.0.0.1:{one.port}/health" for one in instances},
        ROUTER_UNIT: f"http://{catalog.bridge.host}:{catalog.bridge.ports[0]}/health",
    }


def unit_row(unit: str, state: UnitState | None, url: str) -> tuple[str, str, str, str, str]:
    """Write one unit's row; a unit that nobody could be asked about has an unknown state."""
    if state is None:
        return (unit, "unknown", "-", "-", url)
    answers = ServerHealth().is_ready(url, ANSWER_TIMEOUT_S) if state.is_active else False
    name = state.active.value if state.result == "success" else f"{state.active.value} ({state.result})"
    return (unit, name, str(state.main_pid or "-"), "yes" if answers else "no", url)


def echo_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    for line in table(rows):
        click.echo(line)
