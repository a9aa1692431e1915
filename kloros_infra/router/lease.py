"""Allocations (design document, section 5.1): an instance lent to a request, and the journal that outlives the router.

The journal has one line for each allocation that began and one for each that ended; what began and did not end was
lent when the router stopped. Times in it are those of the epoch, so that another process can read them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from kloros_infra.router.effects import Allocated, AllocationChange

LONGEST_S = 86_400.0
"""No allocation of a router that is gone protects for longer, whatever a journal says that was tampered with."""
LARGEST = 1e12
"""Times beyond are no times; nor are NaN and the infinities, which Python's JSON lets in."""
ADOPTED_ACTIVE_S = 30.0
"""How long after a router's start its predecessor's allocations protect an instance from being stopped for another.

The streams of a router that is gone have ended with it; only their last tokens may still be on their way.
"""


class Lease(NamedTuple):
    """One allocation; `created_at` is on the clock of whoever holds it."""

    allocation_id: str
    request_id: str
    model_id: str
    profile: str
    target: str
    created_at: float
    ttl_s: float

    @property
    def expires_at(self) -> float:
        return self.created_at + self.ttl_s


class Adopted:
    """Allocations from before the router's start: nobody will end them, so they protect for a while and expire.

    The clock on the wall may have been put back since: none was lent later than now.
    """

    def __init__(self, leases: Iterable[Lease], now: float) -> None:
        self._active_until = now + ADOPTED_ACTIVE_S
        self._leases = {lease.allocation_id: _bounded(lease, now) for lease in leases}

    def __len__(self) -> int:
        return len(self._leases)

    def is_active(self, target: str, now: float) -> bool:
        """Say whether a target may still be working for one, so that it is not stopped for another."""
        return now < self._active_until and self.is_lent(target, now)

    def is_lent(self, target: str, now: float) -> bool:
        """Say whether a target is lent, so that it is not stopped for being idle."""
        return any(lease.target == target and now < lease.expires_at for lease in self._leases.values())

    def next_at(self, now: float) -> float | None:
        """Say when the next one expires, or stops protecting."""
        ends = [lease.expires_at for lease in self._leases.values()]
        if ends and now < self._active_until:
            ends.append(self._active_until)
        return min(ends, default=None)

    def expired(self, now: float) -> tuple[Lease, ...]:
        """Take out those whose time is over."""
        return self._take(lease for lease in self._leases.values() if lease.expires_at <= now)

    def of(self, target: str) -> tuple[Lease, ...]:
        """Take out those of a target whose process has ended."""
        return self._take(lease for lease in self._leases.values() if lease.target == target)

    def _take(self, leases: Iterable[Lease]) -> tuple[Lease, ...]:
        taken = tuple(leases)
        for lease in taken:
            del self._leases[lease.allocation_id]
        return taken


def _bounded(lease: Lease, now: float) -> Lease:
    return lease._replace(created_at=min(lease.created_at, now), ttl_s=min(lease.ttl_s, LONGEST_S))


def changed(lease: Lease, change: AllocationChange) -> Allocated:
    """Say what happened to an allocation."""
    return Allocated(change, *lease)


def journal_line(allocated: Allocated, *, epoch_offset_s: float) -> str:
    """Write what happened as one line; `epoch_offset_s` is what the epoch is ahead of the core's clock."""
    if allocated.change is AllocationChange.CREATED:
        lease = allocated._asdict() | {"created_at": allocated.created_at + epoch_offset_s}
        return json.dumps(lease, separators=(",", ":")) + "\n"
    return json.dumps({"change": allocated.change, "allocation_id": allocated.allocation_id}) + "\n"


def journal_text(leases: Iterable[Lease], *, epoch_offset_s: float) -> str:
    """Write the journal anew, with what is lent now and no more."""
    lines = (journal_line(changed(lease, AllocationChange.CREATED), epoch_offset_s=epoch_offset_s) for lease in leases)
    return "".join(lines)


def read_journal(text: str, *, epoch_offset_s: float) -> tuple[Lease, ...]:
    """Read what had not ended; a line that is no record is passed over, as the last one may be torn."""
    lent: dict[str, Lease] = {}
    for line in text.splitlines():
        record = _record(line)
        id = record.get("allocation_id")
        if record.get("change") == AllocationChange.CREATED:
            lease = _lease(record, epoch_offset_s)
            if lease is not None:
                lent[lease.allocation_id] = lease
        elif isinstance(id, str):
            lent.pop(id, None)
    return tuple(lent.values())


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _lease(record: dict[str, Any], epoch_offset_s: float) -> Lease | None:
    words = [record.get(name) for name in Lease._fields[:5]]
    numbers = [record.get(name) for name in Lease._fields[5:]]
    if not all(isinstance(word, str) for word in words) or not all(map(_is_number, numbers)):
        return None
    lease = Lease._make([*words, *numbers])
    return lease._replace(created_at=lease.created_at - epoch_offset_s)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
