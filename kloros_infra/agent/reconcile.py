"""Reconcile: look at the cards, decide which profile is active, write that down, and have it followed.

Everything that may change a decision only raises a flag. The flag is taken away first: what changes after that raises
it anew, and is looked at once more. Each file is replaced as a whole, the memory before the profile, so that whoever
is killed in between leaves what the next reconcile goes on from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kloros_infra.agent.facts import NOTHING_SEEN, Sight, after_resets, glance, look
from kloros_infra.agent.memory import Memory, memory_text, read_memory
from kloros_infra.agent.ports import Outside
from kloros_infra.agent.problems import nothing_installed, problems_of
from kloros_infra.agent.report import Judged, make_report, steadied
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.cards_report import CLOSED, CardsReport, understood
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.topology.decide import decide

MOST_ROUNDS = 5
"""How often one reconcile looks again where the flag is raised again; then whoever waits for the flag goes on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a reconcile; without a report nothing was decided, and `problems` say why.

    `before` is the profile that was active, None where none was. `held_until_s` is on the monotonic clock.
    """

    report: CardsReport | None
    problems: Problems = ()
    before: str | None = None
    held_until_s: float | None = None
    sight: Sight | None = None
    table: RoutingTable | None = None

    @property
    def is_switched(self) -> bool:
        return self.report is not None and self.before != self.report.profile


def reconcile(outside: Outside, last: Sight = NOTHING_SEEN) -> Outcome:
    """Reconcile until nothing has changed meanwhile; raise LockHeldError, and OSError where nothing can be written.

    `last` is what was seen before. A loss that needs no question to the driver is followed before that is asked, for a
    driver whose card has just gone may take seconds to answer.
    """
    if outside.table() is None:
        # Where nothing is installed, no folder is made for the lock either.
        outside.files.remove(outside.layout.dirty_file)
        return _nothing(outside)
    with outside.lock():
        outcome = _round(outside, last)
        for _ in range(MOST_ROUNDS - 1):
            if not outside.files.exists(outside.layout.dirty_file):
                break
            again = _round(outside, last)
            outcome = replace(again, before=again.before if outcome.report is None else outcome.before)
    if outcome.report is not None:
        outside.hardware.follow(outcome.report.hardware_changes)
    return outcome


def considered(outside: Outside, table: RoutingTable) -> tuple[CardsReport, bool]:
    """Decide without writing anything; say as well whether that goes on from what a reconcile of this boot left."""
    memory = _remembered(outside)
    judged = _judge(outside, look(outside, table), memory)
    return make_report(judged, problems_of(judged), ()), memory.state.profile is not None


def _round(outside: Outside, last: Sight) -> Outcome:
    outside.files.remove(outside.layout.dirty_file)
    table = outside.table()
    if table is None:
        return _nothing(outside)
    if isinstance(table, Diagnostic):
        return Outcome(None, (table,))
    memory = _remembered(outside)
    before = (outside.files.read(outside.layout.profile_file) or "").strip() or None
    if memory.state.profile is not None:
        memory = _followed_loss(outside, table, memory, last)
    judged = _judge(outside, look(outside, table), memory)
    report, problems = _published(outside, table, judged)
    return Outcome(report, problems, before, judged.decision.held_until_s, judged.sight, table)


def _nothing(outside: Outside) -> Outcome:
    return Outcome(None, (nothing_installed(outside.layout.absolute(outside.layout.routing)),))


def _remembered(outside: Outside) -> Memory:
    return read_memory(outside.files.read(outside.layout.topology_file), outside.boot_id)


def _judge(outside: Outside, sight: Sight, memory: Memory) -> Judged:
    now = outside.now()
    sight = replace(sight, facts=after_resets(sight, memory.state, now))
    state, decision = decide(memory.state, sight.facts, now)
    is_same = memory.state.profile == decision.profile and memory.since_epoch_s is not None
    since_epoch_s = memory.since_epoch_s if is_same else now.epoch_s
    return Judged(sight, decision, Memory(state, since_epoch_s, memory.followed), now)


def _followed_loss(outside: Outside, table: RoutingTable, memory: Memory, last: Sight) -> Memory:
    """Follow what is lost whatever the driver says; what is won waits for what it says."""
    judged = _judge(outside, glance(outside, table, last), memory)
    if not _is_loss(outside, table, judged, memory):
        return memory
    _published(outside, table, judged)
    return _remembered(outside)


def _is_loss(outside: Outside, table: RoutingTable, judged: Judged, memory: Memory) -> bool:
    """Say whether a card was closed, or the profile left for one that asks less."""
    names = table.profile_names
    if memory.state.profile in names and names.index(judged.profile) > names.index(memory.state.profile):
        return True
    before = _report(outside)
    was_closed = {card.card for card in before.cards if card.is_closed} if before else set()
    return any(card.state in CLOSED and card.card not in was_closed for card in judged.decision.cards)


def _published(outside: Outside, table: RoutingTable, judged: Judged) -> tuple[CardsReport, Problems]:
    """Write the memory, the report and the profile, in this order, and have them followed."""
    problems, before = problems_of(judged), _report(outside)
    changes = outside.hardware.changes(table, judged.sight.reading)
    report = steadied(make_report(judged, problems, changes), before)
    files, layout = outside.files, outside.layout
    files.write(layout.topology_file, memory_text(judged.memory, outside.boot_id))
    files.write(layout.cards_file, report.model_dump_json(indent=1) + "\n")
    files.write(layout.profile_file, f"{report.profile}\n")
    _have_followed(outside, judged.memory, report, before)
    return report, problems


def _have_followed(outside: Outside, memory: Memory, report: CardsReport, before: CardsReport | None) -> None:
    is_followed = memory.followed == report.profile
    if not is_followed or before is None or _states(before) != _states(report):
        outside.followers.tell_router()
    if not is_followed and outside.followers.start_target(report.profile):
        followed = replace(memory, followed=report.profile)
        outside.files.write(outside.layout.topology_file, memory_text(followed, outside.boot_id))


def _states(report: CardsReport) -> tuple[str, list[tuple[str, str]]]:
    return report.profile, [(card.card, card.state) for card in report.cards]


def _report(outside: Outside) -> CardsReport | None:
    return understood(outside.files.read(outside.layout.cards_file))
