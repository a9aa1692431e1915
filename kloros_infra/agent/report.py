"""Make the report of the cards from a decision; times that only jitter stay, so that an unchanged report stays so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kloros_infra.agent.facts import MIB, Sight
from kloros_infra.agent.memory import Memory
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.card_facts import CardFacts, CardReading, Holder, Now
from kloros_infra.ir.cards_report import CardsReport, ReportedCard, ReportedHolder, ReportedProblem
from kloros_infra.topology.decision import CardVerdict, Decision
from kloros_infra.topology.forecast import forecast

JITTER_S = 1.0
"""Two clocks are read one after the other, and one of them may be slewed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision, what it was made of, and what is remembered of it."""

    sight: Sight
    decision: Decision
    memory: Memory
    now: Now

    @property
    def profile(self) -> str:
        return self.decision.profile


def make_report(judged: Judged, problems: Iterable[Diagnostic], hardware_changes: tuple[str, ...]) -> CardsReport:
    """Say how each card stands and why the active profile is."""
    decision, now = judged.decision, judged.now
    following = forecast(judged.memory.state, judged.sight.facts, now)
    return CardsReport(
        profile=decision.profile,
        reason=decision.reason,
        since_epoch_s=judged.memory.since_epoch_s if judged.memory.since_epoch_s is not None else now.epoch_s,
        held_until_epoch_s=_epoch(decision.held_until_s, now),
        next_profile=None if following is None else following[0],
        next_epoch_s=None if following is None else _epoch(following[1], now),
        pin=judged.sight.facts.policy.pin,
        cards=tuple(_card(verdict, judged) for verdict in decision.cards),
        problems=tuple(_problem(one) for one in problems),
        hardware_changes=hardware_changes,
    )


def steadied(report: CardsReport, before: CardsReport | None) -> CardsReport:
    """Take times from the report before where they differ by less than clocks jitter."""
    if before is None:
        return report
    known = {card.card: card.until_epoch_s for card in before.cards}
    cards = (
        card.model_copy(update={"until_epoch_s": _steady(card.until_epoch_s, known.get(card.card))})
        for card in report.cards
    )
    return report.model_copy(
        update={
            "held_until_epoch_s": _steady(report.held_until_epoch_s, before.held_until_epoch_s),
            "next_epoch_s": _steady(report.next_epoch_s, before.next_epoch_s),
            "cards": tuple(cards),
        }
    )


def _steady(time: float | None, before: float | None) -> float | None:
    return before if time is not None and before is not None and abs(time - before) < JITTER_S else time


def _epoch(monotonic_s: float | None, now: Now) -> float | None:
    return None if monotonic_s is None else now.at(monotonic_s).epoch_s


def _card(verdict: CardVerdict, judged: Judged) -> ReportedCard:
    name, sight = verdict.card, judged.sight
    facts = next((card for card in sight.facts.cards if card.card == name), CardFacts(name, is_present=False))
    read = next((card for card in sight.reading.cards if card.card == name), CardReading(name))
    foreign = {card.card: card.foreign_bytes for card in judged.memory.state.cards}
    return ReportedCard(
        card=name,
        state=verdict.state.value,
        reason=verdict.reason,
        until_epoch_s=_epoch(verdict.until_s, judged.now),
        uuid=facts.uuid,
        pci=facts.pci,
        total_mib=_mib(facts.total_bytes),
        used_mib=_mib(read.used_bytes) if facts.is_present else None,
        foreign_mib=_mib(foreign.get(name)),
        holders=tuple(map(_holder, facts.holders)),
    )


def _holder(holder: Holder) -> ReportedHolder:
    return ReportedHolder(pid=holder.pid, name=holder.name, held_mib=_mib(holder.held_bytes))


def _mib(size: int | None) -> int | None:
    return None if size is None else round(size / MIB)


def _problem(problem: Diagnostic) -> ReportedProblem:
    return ReportedProblem(
        code=problem.code,
        severity=problem.severity.value,
        summary=problem.summary,
        detail=problem.detail,
        hint=problem.hint,
    )
