"""Who is to be started now: for requests that wait, and for operators."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.ir.requests import Priority
from kloros_infra.router.fleet import Fleet
from kloros_infra.router.starting import Demand
from kloros_infra.router.traffic import Traffic


def of_lines(traffic: Traffic, fleet: Fleet) -> Iterator[Demand]:
    """Say whom the lines want."""
    for model_id in traffic.lines:
        if (demand := of_line(model_id, traffic, fleet)) is not None:
            yield demand


def of_line(model_id: str, traffic: Traffic, fleet: Fleet) -> Demand | None:
    """Say who is to be started for a line, if it is one of this machine."""
    first = traffic.lines[model_id].first()
    local = fleet.serving(model_id)
    if first is None or local is None or local.is_open:
        return None
    request = traffic.requests[first]
    return Demand(request.rank, request.asked_at, local)


def of_operators(fleet: Fleet) -> Iterator[Demand]:
    """Say what operators want to run that does not yet."""
    for name, since in fleet.asked_for.items():
        yield Demand(Priority.INTERACTIVE.rank, since, fleet.locals[name])
