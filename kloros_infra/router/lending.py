"""Which allocations there are, and which of them are told of."""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import Effects, Local, Request, Station
from kloros_infra.router.effects import AllocationChange
from kloros_infra.router.lease import Lease, changed

REMOTE_LEASE_S = 600.0
YOUNG_S = 0.05
"""An allocation that is over sooner is told to nobody: none could act on it, and there may be thousands a second."""


class Lending:
    """One allocation for each attempt, told of once it has lasted a moment, and ended with the attempt."""

    def __init__(self, agenda: Agenda, *, seed: int) -> None:
        self._agenda = agenda
        self._prefix = f"alloc_{seed:08x}_"
        self._count = 0
        self._is_noted = False

    def begin(self, request: Request, now: float) -> str:
        """Lend the station of a request to it; give the allocation's id."""
        self._count += 1
        request.allocation_id = id = f"{self._prefix}{self._count}"
        if not self._is_noted:
            self._is_noted = True
            self._agenda.note(now + YOUNG_S, Due.YOUNG, "")
        return id

    def tell(self, requests: Iterable[Request], profile: str, now: float, out: Effects) -> None:
        """Tell of the allocations that have lasted, and look again when the next one will have."""
        next_at = None
        for request in requests:
            station, sent_at = request.station, request.sent_at
            if station is None or request.lease is not None or not request.allocation_id:
                continue
            if sent_at + YOUNG_S <= now:
                _tell(request, station, profile, out)
            elif next_at is None or sent_at + YOUNG_S < next_at:
                next_at = sent_at + YOUNG_S
        self._is_noted = next_at is not None
        if next_at is not None:
            self._agenda.note(next_at, Due.YOUNG, "")

    def end(self, request: Request, change: AllocationChange, out: Effects) -> None:
        """End a request's allocation, and tell those who were told of it."""
        request.allocation_id = ""
        if request.lease is not None:
            out.append(changed(request.lease, change))
            request.lease = None


def ttl_s(station: Station) -> float:
    """Say how long an allocation of a station lasts."""
    return station.upstream.lease_s if isinstance(station, Local) else REMOTE_LEASE_S


def _tell(request: Request, station: Station, profile: str, out: Effects) -> None:
    request.lease = Lease(
        request.allocation_id,
        request.asked.id,
        station.model_id,
        profile,
        station.name,
        request.sent_at,
        ttl_s(station),
    )
    out.append(changed(request.lease, AllocationChange.CREATED))
