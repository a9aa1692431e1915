"""The one owner of the router's core: events go in, effects are carried out, one timer wakes it.

Called on the loop's thread only, so that nothing here waits and nothing needs a lock. What takes time (units, health
checks, the journal) is done by others, who tell what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, assert_never

from kloros_infra.daemon import card_reports
from kloros_infra.daemon.deadlines import LATE_S
from kloros_infra.daemon.ports import Clock
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.announcing import card_news
from kloros_infra.router.candidates import Candidates, candidates
from kloros_infra.router.cards import stand
from kloros_infra.router.core import Core
from kloros_infra.router.effects import (
    Allocated,
    Announce,
    Continue,
    Effect,
    Poll,
    Refuse,
    RestartUnit,
    Send,
    StartUnit,
    StopUnit,
    Target,
)
from kloros_infra.router.events import (
    Asked,
    Began,
    Ended,
    Event,
    Left,
    Outcome,
    Polled,
    TableReplaced,
    Ticked,
    Verdict,
)
from kloros_infra.router.explain import Explanation
from kloros_infra.router.query import Query, Refused
from kloros_infra.router.select import Ask
from kloros_infra.router.views import Overview

NEVER = float("inf")
# The event loop's own clock may be a millisecond behind what it was asked for.
SOONEST_S = 0.001
CATCH_UP_S = 0.05
"""After this process stood still, what lies in the sockets is read before anything is found to be overdue."""


class Taker(Protocol):
    """Whoever asked, and waits for an answer."""

    def on_send(self, send: Send) -> None:
        """Ask a target; it comes again where that fails and another may be asked."""
        ...

    def on_continue(self, send: Send) -> None:
        """Ask a target to go on where the answer broke off."""
        ...

    def on_refused(self, refuse: Refuse) -> None:
        """Answer that nobody can serve it; nothing more comes."""
        ...


def _nothing() -> None: ...


Told = Poll | StartUnit | StopUnit | RestartUnit | Announce


class Hands(Protocol):
    """Carries out what takes time; each tells the desk what came of it."""

    def start(self, instance: str) -> None: ...
    def stop(self, instance: str) -> None: ...
    def restart(self, instance: str) -> None: ...
    def poll(self, poll: Poll) -> None: ...
    def allocated(self, allocated: Allocated) -> None: ...
    def announce(self, announce: Announce) -> None: ...


class Desk:
    """Takes requests in and tells each taker whom to ask; `changed` is set when `health` would say something else."""

    def __init__(self, core: Core, clock: Clock) -> None:
        self._core = core
        self._agenda = core.agenda
        self._clock = clock
        self.now = self._now = clock.now
        """The time on the core's clock."""
        self._hands: Hands | None = None
        self._takers: dict[str, Taker] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._due_at = NEVER
        self._changes = core.changes
        # Read for every request, and changed by the core with much else.
        self.table: RoutingTable = core.table
        self.profile: str = core.profile
        self._problem: Diagnostic | None = None
        self._stand = stand(core.profile, None)
        self.cards: CardsReport | None = None
        """How the cards stand, as far as somebody looks at them."""
        self.follow: Callable[[], None] = _nothing
        """Takes up at once what is new in the files that the router follows."""
        self.changed = asyncio.Event()

    def employ(self, hands: Hands) -> None:
        """Name who carries out what takes time; without one it is left undone."""
        self._hands = hands

    @property
    def waiting(self) -> int:
        """Say how many wait for an answer or for the rest of one."""
        return len(self._takers)

    # Requests.

    def ask(self, asked: Asked, taker: Taker) -> None:
        """Take a request in; the taker hears at once or later whom to ask, or that nobody can serve it."""
        self._takers[asked.id] = taker
        send = self._core.at_once(asked, self._now())
        if send is None:
            self.tell(asked)
            return
        if self._agenda.earliest < self._timer_at:
            self._arm()
        taker.on_send(send)

    def began(self, id: str) -> None:
        """Note that the answer's first byte is on its way to whoever asked."""
        self.tell(Began(id))

    def served(self, id: str) -> None:
        """Note that an answer was passed on whole."""
        self._takers.pop(id, None)
        if not self._core.served(id, self._now()):
            self.tell(Ended(id, Outcome.SERVED))
        elif self._agenda.earliest < self._timer_at:
            self._arm()

    def ended(self, ended: Ended) -> None:
        """Note that a refusal was passed on, after which nobody else is asked."""
        self._takers.pop(ended.id, None)
        self.tell(ended)

    def failed(self, ended: Ended, *, has_begun: bool) -> bool:
        """Note an attempt that came to nothing; say whether the taker has heard or will hear how it goes on."""
        effects = self.tell(ended)
        if not has_begun:
            return True
        goes_on = any(type(effect) in (Continue, Refuse) and _id_of(effect) == ended.id for effect in effects)
        goes_on = goes_on or self._core.queue_position(ended.id) is not None
        if not goes_on:
            self._takers.pop(ended.id, None)
        return goes_on

    def left(self, id: str) -> None:
        """Note that whoever asked has gone, or wants no more."""
        if self._takers.pop(id, None) is not None:
            self.tell(Left(id))

    def queue_position(self, id: str) -> int | None:
        """Say where in line a request stands."""
        return self._core.queue_position(id)

    def why_stopped(self, target: Target) -> str | None:
        """Say why a target was stopped, where that is known."""
        return self._core.why_stopped(target.name)

    def overview(self) -> Overview:
        """Say how each instance is and who waits."""
        return self._core.overview(self._now())

    def explain(self, query: Query, *, client: str = "", tokens: int = 0) -> Explanation:
        """Decide as for a request, and keep what was looked at."""
        return self._core.explain(query, self._now(), client=client, ask=Ask(tokens))

    def find(self, query: Query) -> Candidates | Refused:
        """List the models that a query means, whether they run or not."""
        return candidates(self.table, query, profile=self.profile)

    # What else happens.

    def found_loading(self, target: Target) -> None:
        """Note that a target said of itself that it still loads."""
        self.tell(Polled(target.name, Verdict.LOADING))

    def replace_table(self, table: RoutingTable) -> None:
        """Route by a new table; what stays as it was keeps its connections, requests and state."""
        self.tell(TableReplaced(table))

    def take_state(self, profile: str, report: CardsReport | None) -> None:
        """Serve from a profile's instances, and run nothing on cards that are not to be used: both in one step."""
        before, self.cards = self.cards, report
        # Compared as it was written: the two clocks are never read at one moment.
        known, self._stand = self._stand, stand(profile, report)
        if self._stand != known:
            offset_s = self._clock.epoch_s() - self._clock.now()
            reason = report.reason if report is not None and report.profile == profile else ""
            self.tell(stand(profile, report, epoch_offset_s=offset_s)._replace(reason=reason))
        if report is not None and report != before:
            self.changed.set()
            for news in card_news(before, report):
                self._carry_out(news)

    def note_problem(self, problem: Diagnostic | None) -> None:
        """Say on `llm.health` that a new table was refused, until another one is taken up."""
        if problem != self._problem:
            self._problem = problem
            self.changed.set()

    def outline(self) -> object:
        """Give what of `health` is worth telling at once: all but the figures."""
        health = self._core.health(self._clock.now())
        targets = [*health["runtimes"], *health["remote"]]
        states = [(one.get("profile") or one["target"], one["status"], one["breaker"]) for one in targets]
        return states, self.profile, self._problem, card_reports.outline(self.cards)

    def health(self) -> Mapping[str, Any]:
        """Give the `llm.health` payload of the design document, section 7."""
        health = {"timestamp": card_reports.iso(self._clock.epoch_s()), **self._core.health(self._clock.now())}
        health["warnings"] = card_reports.warnings(self.cards)
        if self._problem is None:
            return health
        problem = {"code": self._problem.code, "message": f"{self._problem.summary}: {self._problem.detail}"}
        return {**health, "problem": problem}

    def tell(self, event: Event) -> list[Effect]:
        """Have the core decide, and carry out what it wants."""
        core = self._core
        effects = core.on(event, self._now())
        if core.changes != self._changes or core.table is not self.table or core.profile != self.profile:
            self._changes, self.table, self.profile = core.changes, core.table, core.profile
            self.changed.set()
        for effect in effects:
            # The two that come with every request are told apart at once.
            if isinstance(effect, Send):
                taker = self._takers.get(effect.id)
                if taker is not None:
                    taker.on_send(effect)
            elif isinstance(effect, Allocated):
                if self._hands is not None:
                    self._hands.allocated(effect)
            else:
                self._carry_out(effect)
        self._arm()
        return effects

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    # Own steps.

    def _carry_out(self, effect: Continue | Refuse | Told) -> None:
        match effect:
            case Continue(send):
                taker = self._takers.get(send.id)
                if taker is not None:
                    taker.on_continue(send)
            case Refuse(id):
                taker = self._takers.pop(id, None)
                if taker is not None:
                    taker.on_refused(effect)
            case _:
                if self._hands is not None:
                    _hand_over(effect, self._hands)

    def _arm(self) -> None:
        """See to it that the timer is early enough."""
        next_at = self._core.next_at()
        if next_at is not None and next_at < self._timer_at:
            self._wake_at(next_at)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self._clock.now()
        self._timer_at, self._due_at = at, max(at, now)
        delay_s = max(at - now, SOONEST_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        if self._clock.now() - self._due_at > LATE_S:
            # No earlier timer is wanted meanwhile.
            self._timer_at = -NEVER
            self._timer = asyncio.get_running_loop().call_later(CATCH_UP_S, self._do_what_is_due)
        else:
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        self._timer, self._timer_at = None, NEVER
        self.tell(Ticked())


def _hand_over(effect: Told, hands: Hands) -> None:
    match effect:
        case Poll():
            hands.poll(effect)
        case StartUnit(instance):
            hands.start(instance)
        case StopUnit(instance):
            hands.stop(instance)
        case RestartUnit(instance):
            hands.restart(instance)
        case Announce():
            hands.announce(effect)
        case _ as never:
            assert_never(never)


def _id_of(effect: Effect) -> str | None:
    match effect:
        case Continue(send):
            return send.id
        case Refuse(id):
            return id
        case _:
            return None
