"""Take up what other processes write: the routing table, which profile is active, and how the cards stand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.files import read_cards, read_profile, read_table
from kloros_infra.daemon.ports import Clock, WatchedText
from kloros_infra.daemon.request_problems import restart_needed
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.routing import RoutingTable

log = logging.getLogger(__name__)

FILE_POLL_S = 0.25
BETWEEN_S = 1.0
"""Whoever decides writes how the cards stand and then the profile: so long a report waits for the profile it names."""


class _Watched:
    """A file, and whether it is another one than when that was last asked."""

    def __init__(self, file: WatchedText) -> None:
        self.file = file
        self._seen: tuple[object] | None = None

    def has_changed(self) -> bool:
        """Look; the first time it has."""
        before, self._seen = self._seen, (self.file.stamp(),)
        return before != self._seen


class Following:
    """Reads the files: `table` and `profile` are what to start with, `attach` names whom to tell from then on."""

    def __init__(self, routing_path: str, watch: Callable[[str], WatchedText], clock: Clock) -> None:
        self._watch = watch
        self._clock = clock
        self._routing = _Watched(watch(routing_path))
        self._routing.has_changed()
        table = read_table(self._routing.file)
        if isinstance(table, Diagnostic):
            raise ProblemsError([table])
        self.table = table
        self._open(table)
        self._profile.has_changed()
        self.profile, problem = read_profile(self._profile.file, table, None)
        warn(problem)
        self._report: CardsReport | None = None
        self._waits_until: float | None = None
        """Until when a report waits for the profile that it names."""

    def attach(self, desk: Desk) -> None:
        """Tell a desk how the cards stand, and from now on what changes; it may have us look at once."""
        self._desk = desk
        desk.follow = self.look
        self._take_state(is_first=True)

    async def follow(self) -> None:
        """Take up what is new within FILE_POLL_S, for ever."""
        while True:
            await asyncio.sleep(FILE_POLL_S)
            self.look()

    def look(self) -> None:
        """Take up what is new now: first the table, then in one step the active profile and how the cards stand."""
        if self._routing.has_changed():
            self._take_table()
        self._take_state()

    def _take_table(self) -> None:
        table = read_table(self._routing.file)
        if isinstance(table, Diagnostic):
            warn(table)
            log.warning("the router goes on with the table it has")
            self._desk.note_problem(table)
            return
        self._compare_addresses(table)
        self._desk.note_problem(None)
        self._desk.replace_table(table)
        self._open(table)
        log.info("took up a new routing table: %d models", len(table.models))

    def _open(self, table: RoutingTable) -> None:
        self._profile = _Watched(self._watch(table.profile_file))
        self._cards = None if table.cards_file is None else _Watched(self._watch(table.cards_file))

    def _take_state(self, *, is_first: bool = False) -> None:
        """Tell which profile is active and how the cards stand, where either is new."""
        desk = self._desk
        if self._profile.has_changed():
            self.profile, problem = read_profile(self._profile.file, desk.table, desk.profile)
            warn(problem)
        is_reported = self._look_at_cards() or self._waits_until is not None
        if is_reported and not is_first and self._is_between():
            return
        self._waits_until = None
        if self.profile != desk.profile:
            log.info("profile %s is active, before it was %s", self.profile, desk.profile)
        if is_first or is_reported or self.profile != desk.profile:
            desk.take_state(self.profile, self._report)

    def _look_at_cards(self) -> bool:
        """Read how the cards stand, and say whether that is new; what cannot be read leaves it as it was."""
        if self._cards is None:
            is_new, self._report = self._report is not None, None
            return is_new
        if not self._cards.has_changed():
            return False
        found = read_cards(self._cards.file)
        if isinstance(found, Diagnostic):
            warn(found)
            return False
        is_new, self._report = found is not None and found != self._report, found or self._report
        return is_new

    def _is_between(self) -> bool:
        """Say whether the profile is still to come that the newest report names."""
        if self._report is None or self._report.profile == self.profile:
            return False
        now = self._clock.now()
        if self._waits_until is None:
            self._waits_until = now + BETWEEN_S
        return now < self._waits_until

    def _compare_addresses(self, table: RoutingTable) -> None:
        if table.bus != self._desk.table.bus:
            warn(restart_needed("bus addresses"))
        before, after = self._desk.table.bridge, table.bridge
        if (before.host, before.ports) != (after.host, after.ports):
            warn(restart_needed("bridge addresses"))


def warn(problem: Diagnostic | None) -> None:
    """Log a problem, if there is one."""
    if problem:
        log.warning("%s %s: %s %s", problem.code, problem.summary, problem.detail, problem.hint)
