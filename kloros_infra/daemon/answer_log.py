"""Write answers to the journal, many at a time, so that a router that restarts answers no request twice."""

from __future__ import annotations

import asyncio
import logging

from kloros_infra.daemon.ports import Clock, Journal
from kloros_infra.router.answer_lines import answer_line, lines_of, read_answers
from kloros_infra.router.dedupe import Kept, Ledger

log = logging.getLogger(__name__)

BREATH_S = 0.05
MOST_CHARACTERS = 64 * 2**20
"""So much is added before the journal is written anew."""


class AnswerLog:
    """Keeps what a ledger keeps."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._ledger: Ledger | None = None
        self._fresh: list[Kept] = []
        self._written = 0
        self._is_broken = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def adopt(self, ledger: Ledger) -> None:
        """Tell the ledger what was answered before the last router stopped, and begin the journal anew with it."""
        self._ledger = ledger
        offset_s = self._offset_s()
        try:
            found = read_answers(self._journal.read(), epoch_offset_s=offset_s)
            ledger.restore(found, now=self._clock.now())
            self._journal.rewrite(lines_of(ledger.kept(), epoch_offset_s=offset_s))
        except (OSError, UnicodeDecodeError) as error:
            self._note_broken(error)

    def add(self, kept: Kept) -> None:
        """Take in what was answered."""
        self._fresh.append(kept)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BREATH_S, self._write)

    async def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._writing
        if self._fresh:
            await self._write_out()

    def _write(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            # The disk is slower than we are: what comes meanwhile is written together.
            self._timer = asyncio.get_running_loop().call_later(BREATH_S, self._write)
            return
        self._writing = asyncio.ensure_future(self._write_out())

    async def _write_out(self) -> None:
        fresh, self._fresh = self._fresh, []
        offset_s, ledger = self._offset_s(), self._ledger
        is_long = self._written > MOST_CHARACTERS and ledger is not None
        kept = tuple(ledger.kept()) if is_long and ledger is not None else fresh

        def write() -> int:
            text = "".join(answer_line(one, epoch_offset_s=offset_s) for one in kept)
            (self._journal.rewrite if is_long else self._journal.append)(text)
            return len(text)

        try:
            size = await asyncio.to_thread(write)
        except OSError as error:
            self._note_broken(error)
            return
        self._is_broken = False
        self._written = size if is_long else self._written + size

    def _offset_s(self) -> float:
        return self._clock.epoch_s() - self._clock.now()

    def _note_broken(self, error: Exception) -> None:
        """Say it once: requests are answered without the journal as well."""
        if not self._is_broken:
            self._is_broken = True
            log.warning("the journal of answers cannot be kept: %s", error)
