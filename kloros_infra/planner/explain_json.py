"""A plan as JSON lines for programs: one object per line, the first says the version of the format.

Within a major version keys and types are only added; a reader ignores those it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.impact import UnitImpact
from kloros_infra.ir.plan import Change, Plan
from kloros_infra.planner.address import unit_address
from kloros_infra.planner.summary import counts

FORMAT_VERSION = "1.1"

Row = dict[str, object]


def explain_json(plan: Plan, problems: Iterable[Diagnostic]) -> tuple[str, ...]:
    """Write a plan: version, changes, cards, detours, drift, diagnostics, summary."""
    return json_lines(_rows(plan, problems))


def json_lines(rows: Iterable[Row]) -> tuple[str, ...]:
    """Write rows, the version first."""
    return tuple(json.dumps(row, ensure_ascii=True) for row in ({"type": "version", "format": FORMAT_VERSION}, *rows))


def _rows(plan: Plan, problems: Iterable[Diagnostic]) -> Iterator[Row]:
    impacts = {unit_address(unit.unit): unit for unit in plan.impact.units}
    for change in plan.changes:
        yield _change(change, impacts.get(change.address))
    for card in plan.impact.cards:
        yield {"type": "card_memory", **asdict(card)}
    for detour in plan.impact.detours:
        yield {"type": "detour", **asdict(detour)}
    for drift in plan.drift:
        yield {"type": "drift", **asdict(drift)}
    for problem in problems:
        yield _diagnostic(problem)
    yield _summary(plan)


def _change(change: Change, impact: UnitImpact | None) -> Row:
    cost = None if impact is None else asdict(impact)
    return {
        "type": "planned_change",
        "address": change.address,
        "action": change.action,
        "reason": change.reason,
        "keys": [{"key": key.key, "before": key.before, "after": key.after} for key in change.keys],
        "unit_action": change.unit_action,
        "seconds": round(change.seconds, 1),
        "ignored_keys": change.ignored,
        "is_harmless": change.is_harmless,
        "impact": cost,
    }


def _diagnostic(problem: Diagnostic) -> Row:
    return {
        "type": "diagnostic",
        "code": problem.code,
        "severity": problem.severity,
        "summary": problem.summary,
        "detail": problem.detail,
        "hint": problem.hint,
        "address": problem.address,
    }


def _summary(plan: Plan) -> Row:
    added, changed, removed = counts(plan)
    return {
        "type": "change_summary",
        "changes": len(plan.changes),
        "add": added,
        "change": changed,
        "remove": removed,
        "unchanged": plan.unchanged,
        "reduced_seconds": round(plan.impact.reduced_s, 1),
        "read_bytes": plan.impact.read_bytes,
        "without_stand_in": plan.impact.without_stand_in,
        "is_empty": plan.is_empty,
        "is_refused": bool(plan.refusals),
    }
