"""Which instances there are, which of them serve, and which may stay: what table, profile and cards want of each."""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.ir.routing import RoutedModel, RoutingTable, Upstream
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import Local, a_local
from kloros_infra.router.cards import Cards, have_opened
from kloros_infra.router.definitions import is_as_started, still_running
from kloros_infra.router.idleness import Idleness
from kloros_infra.router.instance import Happening, State, after, begun
from kloros_infra.router.watch import Watch


class Roster:
    """Owns the instances by name; an instance is active where an upstream of the active profile names it."""

    def __init__(self, agenda: Agenda, watch: Watch, idleness: Idleness) -> None:
        self._agenda = agenda
        self._watch = watch
        self._idleness = idleness
        self._serving: dict[str, Local] = {}
        self._cards = Cards()
        self.locals: dict[str, Local] = {}
        self.wanted: dict[str, None] = {}
        """Instances that are to run without a request, as soon as there is room beside the others."""
        self.asked_for: dict[str, float] = {}
        """Instances that an operator wants to run, and since when: room is made for them as for a request."""
        self.has_redefined = False
        """Whether other instances than before, or others than the table's, are to be asked since someone looked."""

    def serving(self, model_id: str) -> Local | None:
        """Find the instance that serves a model under the active profile."""
        return self._serving.get(model_id)

    def replace(self, table: RoutingTable, profile: str, now: float) -> None:
        """Take in a table and a profile; who uses the roster brings each instance into line with it."""
        before = {name for name, local in self.locals.items() if local.is_active}
        self._serving = {}
        listed: set[str] = set()
        for model in table.models:
            for upstream in _one_each(model.upstreams, profile):
                listed.add(upstream.instance)
                local = self._defined(upstream, model, now)
                local.is_active = upstream.profile == profile
                if local.is_active:
                    self._serving[model.id] = local
                    if upstream.instance not in before:
                        self._enter(local, now)
        for name, local in self.locals.items():
            local.is_listed = name in listed
            local.is_active = local.is_active and local.is_listed
            local.no_room = None
            if not local.is_active:
                self._retire(local, now, is_new=name in before)
            self._judge(local)

    def use_cards(self, cards: Cards, now: float) -> None:
        """Take in how the cards stand: what could not run for them is tried again where they have opened."""
        opened, self._cards = have_opened(self._cards, cards), cards
        for local in self.locals.values():
            self._judge(local)
            if any(share.card in opened for share in local.upstream.shares):
                self._try_again(local, now)

    def _judge(self, local: Local) -> None:
        """Work out what the cards let it do."""
        local.bar = self._cards.bar(local.upstream)
        local.may_stay = self._cards.may_stay(local.upstream)

    def _try_again(self, local: Local, now: float) -> None:
        if local.life.state is State.FAILED:
            # It may well have failed because its card was on its way out.
            local.life = after(local.life, Happening.REDEFINED, now)
        if local.stopped_for is not StopCause.ASKED:
            self.want_anyway(local)

    def _enter(self, local: Local, now: float) -> None:
        """Have an instance serve that has not: what does not run is asked for from now on, or started."""
        if not local.life.is_holding:
            self._watch.next(local, now)
        if self.want_anyway(local):
            local.stopped_for = StopCause.ROOM

    def want_anyway(self, local: Local) -> bool:
        """Have it run without a request, if it is one of those."""
        is_wanted = local.is_active and (local.upstream.preload or local.upstream.is_pinned)
        if is_wanted:
            self.wanted[local.name] = None
        return is_wanted

    def _retire(self, local: Local, now: float, *, is_new: bool) -> None:
        """Have an instance not serve any more: it may stay for a while."""
        self.unwant(local)
        if is_new:
            local.left_at = now
        self._idleness.note(local)

    def unwant(self, local: Local) -> None:
        """Take in that nobody wants it to run."""
        self.wanted.pop(local.name, None)
        self.asked_for.pop(local.name, None)

    def _defined(self, upstream: Upstream, model: RoutedModel, now: float) -> Local:
        """Take in how an instance is defined; a process that runs keeps its definition to its end."""
        local = self.locals.get(upstream.instance)
        if local is None:
            local = self.locals[upstream.instance] = a_local(upstream, model, begun(upstream.definition, now))
            self._agenda.note(now, Due.POLL_INSTANCE, upstream.instance)
            return local
        local.model_id, local.group = model.id, model.group
        if is_as_started(local, upstream, now):
            if upstream.definition != local.life.definition:
                local.life = after(local.life, Happening.REDEFINED, now)
            self.redefine(local, upstream)
        else:
            # Whoever wrote the table restarts what is to be restarted.
            local.successor, local.upstream = upstream, still_running(local.upstream, upstream)
            self._idleness.note(local)
        return local

    def redefine(self, local: Local, upstream: Upstream) -> None:
        """Take over another definition."""
        self.has_redefined = self.has_redefined or local.successor is not None
        local.redefine(upstream)
        self._judge(local)
        self._idleness.note(local)

    def forget(self, local: Local) -> bool:
        """Forget an instance that the table has no more, once nothing of it is left; say whether it is forgotten."""
        is_gone = not local.is_listed and not local.life.is_holding and not local.flights
        if is_gone:
            self.unwant(local)
            del self.locals[local.name]
        return is_gone


def _one_each(upstreams: Iterable[Upstream], profile: str) -> Iterable[Upstream]:
    """Give each instance once: where profiles share it, as the active one has it."""
    found: dict[str, Upstream] = {}
    for upstream in upstreams:
        if upstream.profile == profile or upstream.instance not in found:
            found[upstream.instance] = upstream
    return found.values()
