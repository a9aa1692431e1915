"""Write allocations to the journal, many at a time: what began and ended in one breath is never written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from kloros_infra.daemon.ports import Clock, Journal
from kloros_infra.router.effects import Allocated, AllocationChange
from kloros_infra.router.lease import Lease, journal_line, journal_text, read_journal

log = logging.getLogger(__name__)

BREATH_S = 0.05
MOST_LINES = 10_000
"""So many lines are added before the journal is written anew."""

Listener = Callable[[Allocated], None]


class LeaseLog:
    """Keeps what is lent now; without a journal it only passes on what it hears."""

    def __init__(self, journal: Journal | None, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._lent: dict[str, Allocated] = {}
        self._fresh: dict[str, Allocated] = {}
        self._over: list[Allocated] = []
        self._lines = 0
        self._is_begun = self._is_broken = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self.listener: Listener | None = None
        """Told of each change at once."""

    def adopt(self) -> tuple[Lease, ...]:
        """Read what was lent when the last router stopped; `begin` goes on with it."""
        if self._journal is None:
            return ()
        offset_s = self._offset_s()
        leases: tuple[Lease, ...] = ()
        try:
            leases = read_journal(self._journal.read(), epoch_offset_s=offset_s)
        except (OSError, UnicodeDecodeError) as error:
            self._note_broken(error)
        self._lent = {lease.allocation_id: Allocated(AllocationChange.CREATED, *lease) for lease in leases}
        return leases

    def begin(self) -> None:
        """Begin the journal anew with what is lent, once it is sure that no other router keeps it."""
        self._is_begun = True
        if self._journal is None:
            return
        lent = map(Lease._make, (allocated[1:] for allocated in self._lent.values()))
        try:
            self._journal.rewrite(journal_text(lent, epoch_offset_s=self._offset_s()))
        except OSError as error:
            self._note_broken(error)

    def add(self, allocated: Allocated) -> None:
        """Take in what happened to an allocation."""
        if self.listener is not None:
            self.listener(allocated)
        if self._journal is None:
            return
        if allocated.change is AllocationChange.CREATED:
            self._fresh[allocated.allocation_id] = allocated
        elif self._fresh.pop(allocated.allocation_id, None) is None:
            self._over.append(allocated)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BREATH_S, self._write)

    async def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await self._writing
        if self._is_begun:
            await self._write_out(self._taken())

    def _write(self) -> None:
        self._timer = None
        if not self._is_begun or (self._writing is not None and not self._writing.done()):
            # The journal is not ours yet, or the disk is slower than we are: what comes meanwhile is written together.
            self._timer = asyncio.get_running_loop().call_later(BREATH_S, self._write)
            return
        taken = self._taken()
        if taken:
            self._writing = asyncio.ensure_future(self._write_out(taken))

    def _taken(self) -> list[Allocated]:
        taken = [*self._fresh.values(), *self._over]
        for allocated in self._over:
            self._lent.pop(allocated.allocation_id, None)
        self._lent |= self._fresh
        self._fresh, self._over = {}, []
        return taken

    async def _write_out(self, taken: Sequence[Allocated]) -> None:
        journal, offset_s = self._journal, self._offset_s()
        if journal is None or not taken:
            return
        self._lines += len(taken)
        is_long = self._lines > MOST_LINES
        kept = tuple(self._lent.values()) if is_long else taken
        text = "".join(journal_line(allocated, epoch_offset_s=offset_s) for allocated in kept)
        try:
            await asyncio.to_thread(journal.rewrite if is_long else journal.append, text)
        except OSError as error:
            self._note_broken(error)
            return
        self._is_broken = False
        self._lines = 0 if is_long else self._lines

    def _offset_s(self) -> float:
        return self._clock.epoch_s() - self._clock.now()

    def _note_broken(self, error: Exception) -> None:
        """Say it once: requests are answered without the journal as well."""
        if not self._is_broken:
            self._is_broken = True
            log.warning("the journal of allocations cannot be kept: %s", error)
