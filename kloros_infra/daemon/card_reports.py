"""How the cards stand, in the words of ChemBus: `llm.gpu_profile`, and the warnings of `llm.health`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.routing import RoutingTable

MIB_OF_GB = 1024


def profile_facts(table: RoutingTable, profile: str, report: CardsReport | None) -> dict[str, Any]:
    """Give the design document's payload (section 7) without its time; null is what nobody has measured or said."""
    facts: dict[str, Any] = {"profile": profile, "gpus": profile_gpus(table, profile, report)}
    if report is None:
        return facts | {"reason": None, "held_until": None, "next_profile": None, "pin": None}
    return facts | {
        "reason": report.reason if report.profile == profile else None,
        "held_until": iso(report.held_until_epoch_s),
        "next_profile": report.next_profile,
        "pin": report.pin,
    }


def profile_gpus(table: RoutingTable, profile: str, report: CardsReport | None) -> list[dict[str, Any]]:
    """List every card of the table; where nobody looks at them, those are eligible that the active profile uses."""
    names = dict.fromkeys(card.name for each in table.profiles for card in each.cards)
    active = next((each.cards for each in table.profiles if each.name == profile), ())
    used = {card.name for card in active}
    seen = {} if report is None else {card.card: card for card in report.cards}
    return [
        {"index": index, "name": name, **(_seen(seen[name]) if name in seen else _unseen(is_used=name in used))}
        for index, name in enumerate(names)
    ]


def _unseen(*, is_used: bool) -> dict[str, Any]:
    figures = {"vram_free_gb": None, "eligible": is_used}
    return figures | {"state": None, "reason": None, "until": None, "holders": []}


def _seen(card: ReportedCard) -> dict[str, Any]:
    return {
        "vram_free_gb": _free_gb(card),
        "eligible": card.is_eligible,
        "state": card.state,
        "reason": card.reason,
        "until": iso(card.until_epoch_s),
        "holders": [{"pid": one.pid, "name": one.name, "vram_gb": _gb(one.held_mib)} for one in card.holders],
    }


def _free_gb(card: ReportedCard) -> float | None:
    if card.total_mib is None or card.used_mib is None:
        return None
    return _gb(max(0, card.total_mib - card.used_mib))


def _gb(mib: int | None) -> float | None:
    return None if mib is None else round(mib / MIB_OF_GB, 1)


def warnings(report: CardsReport | None) -> list[dict[str, Any]]:
    """Give what is wrong with the cards, or with what somebody has said of them."""
    if report is None:
        return []
    problems = [
        {"code": problem.code, "severity": problem.severity, "message": f"{problem.summary}: {problem.detail}"}
        for problem in report.problems
    ]
    changes = ({"code": None, "severity": "warning", "message": change} for change in report.hardware_changes)
    return [*problems, *changes]


def outline(report: CardsReport | None) -> object:
    """Give what of a report is worth telling at once: how each card stands, and what is wrong; reasons have figures."""
    if report is None:
        return None
    return [(card.card, card.state) for card in report.cards], report.next_profile, report.pin, warnings(report)


def iso(epoch_s: float | None) -> str | None:
    """Write a time as ChemBus does."""
    if epoch_s is None:
        return None
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
