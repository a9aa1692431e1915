"""Watch: the same reconcile, in a process that is there already when something happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, repeat

from kloros_infra.agent.facts import NOTHING_SEEN, cards_of, local_cards
from kloros_infra.agent.ports import CardEvents, Outside, Wakes
from kloros_infra.agent.problems import cannot_write
from kloros_infra.agent.reconcile import Outcome, reconcile
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import KlorosError
from kloros_infra.ir.card_facts import CardReading, DeclaredCard, DriverReading

log = logging.getLogger(__name__)

WORTH_LOOKING_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """How often things are looked at that nobody reports."""

    soon_s: tuple[float, ...] = (0.1, 0.3, 1.0)
    """The first pauses between looks after a reconcile: a card that comes or goes is not all there, or gone, yet."""
    look_s: float = 2.0
    """Presence, and how others use the cards."""
    mute_look_s: float = 10.0
    """The same while the driver does not answer, for each look waits for it."""
    again_s: float = 60.0
    """Everything, in case that something was missed."""
    retry_s: float = 2.0
    """After a reconcile that could not be carried out, or left the flag standing: nobody reports that again."""
    settle_s: float = 0.05
    """How long to wait after a reconcile before the next one: of many events in a row, few are followed."""


@dataclass(slots=True)
class Watch:
    """The resident agent; `events` hears what the driver reports of cards."""

    outside: Outside
    wakes: Wakes
    events: CardEvents
    times: WatchTimes = WatchTimes()
    _told: frozenset[Diagnostic] = frozenset()
    _last: Outcome = field(default_factory=lambda: Outcome(None))
    _has_failed: bool = False
    _is_over: bool = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Reconcile whenever something happens, until `stop`; `on_ready` is called after the first time."""
        self.reconcile()
        on_ready()
        while not self._is_over:
            self.await_change()
            if not self._is_over:
                self.reconcile()

    def stop(self) -> None:
        """Have `run` return, once what is under way is done; may be called by a signal's handler."""
        self._is_over = True
        self.wakes.nudge()

    def reconcile(self) -> None:
        """Reconcile, and tell what is new; what cannot be written is told and tried again."""
        self._has_failed = False
        try:
            outcome = reconcile(self.outside, self._last.sight or NOTHING_SEEN)
        except KlorosError as error:
            outcome = self._failed(error.problems)
        except OSError as error:
            outcome = self._failed((cannot_write(error),))
        self._tell(outcome)
        self._last = outcome
        self.events.follow(tuple(self._watched()))

    def _failed(self, problems: Problems) -> Outcome:
        """Go on from what was decided last; it is no switch, and when it would have changed says nothing any more."""
        self._has_failed = True
        before = self._last.report.profile if self._last.report is not None else None
        return replace(self._last, problems=problems, before=before, held_until_s=None)

    def await_change(self) -> None:
        """Return when there may be something to do: an event, a change that nobody reports, or the time has come."""
        began = self._now()
        if self._has_failed or self.outside.files.exists(self.outside.layout.dirty_file):
            # What was seen meanwhile is not followed yet, so it would be seen again with each look.
            self.wakes.settle(self.times.settle_s)
            self.wakes.wait(self.times.retry_s)
            return
        due = began + self.times.again_s
        if self._last.held_until_s is not None:
            due = min(due, max(self._last.held_until_s, began))
        # What happens while it settles is not lost: the wait after it returns at once.
        due = max(due, began + self.times.settle_s)
        self.wakes.settle(self.times.settle_s)
        for pause_s in self._pauses():
            left = due - self._now()
            if left <= 0 or self.wakes.wait(min(left, pause_s)) or self._has_changed():
                return

    def _now(self) -> float:
        return self.outside.now().monotonic_s

    def _pauses(self) -> Iterator[float]:
        """Give the pauses between looks, without end."""
        if self._last.sight is not None and self._last.sight.reading.is_stale:
            return repeat(self.times.mute_look_s)
        return chain(self.times.soon_s, repeat(self.times.look_s))

    def _has_changed(self) -> bool:
        """Say whether cards have come or gone, or are used otherwise than when they were looked at."""
        sight, table = self._last.sight, self._last.table
        if sight is None or table is None:
            return False
        if self.outside.presence.present(cards_of(table)) != sight.present:
            return True
        there = [card for card in local_cards(table) if card.name in sight.present]
        return bool(there) and _differs(self.outside.driver.read(there), sight.reading)

    def _watched(self) -> Iterator[DeclaredCard]:
        """Name the cards of which the driver's reports are heard: those that are ours to use."""
        report, table = self._last.report, self._last.table
        if report is not None and table is not None:
            closed = {card.card for card in report.cards if card.is_closed and card.state != "quarantined"}
            yield from (card for card in local_cards(table) if card.name not in closed)

    def _tell(self, outcome: Outcome) -> None:
        """Log a switch, and each problem once for as long as it lasts."""
        for problem in outcome.problems:
            if problem not in self._told:
                level = logging.ERROR if problem.is_error else logging.WARNING
                log.log(level, "%s %s: %s %s", problem.code, problem.summary, problem.detail, problem.hint)
        self._told = frozenset(outcome.problems)
        if outcome.report is not None and outcome.is_switched:
            log.info("profile %s: %s", outcome.report.profile, outcome.report.reason)


def _differs(reading: DriverReading, before: DriverReading) -> bool:
    """Say whether the driver says something that may matter."""
    if (reading.is_stale, reading.trouble) != (before.is_stale, before.trouble):
        return True
    known = {card.card: card for card in before.cards}
    return {card.card for card in reading.cards} != known.keys() or any(
        _is_used_otherwise(card, known[card.card]) for card in reading.cards
    )


def _is_used_otherwise(card: CardReading, before: CardReading) -> bool:
    if (card.obstacle, card.faults, card.uuid) != (before.obstacle, before.faults, before.uuid):
        return True
    if {one.pid for one in card.processes} != {one.pid for one in before.processes}:
        return True
    return abs((card.used_bytes or 0) - (before.used_bytes or 0)) >= WORTH_LOOKING_BYTES
