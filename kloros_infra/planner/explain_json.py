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

FORMAT_VERSION = "1.2"

Row = dict[str, object]


def explain_json(plan: Plan, problems: Iterable[Diagnostic]) -> tuple[str, ...]:
    """Write a plan: version, changes, cards, detours, drift, what is deferred, diagnostics, summary."""
    return json_lines(_rows(plan, problems))


def changes_json(changes: Iterable[Change]) -> tuple[str, ...]:
    """Write changes alone, as between two generations."""
    return json_lines(_change(change, None) for change in changes)


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
    for deferral in plan.deferred:
        yield {"type": "deferred", **asdict(deferral)}
    refused = {(problem.code, problem.address) for problem in plan.refusals}
    for problem in problems:
        # What is refused is a warning as long as it is only planned.
        if (problem.code, problem.address) not in refused:
            yield diagnostic_row(problem)
    for problem in plan.refusals:
        yield {**diagnostic_row(problem), "is_refusal": True}
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
        "on_change": change.on_change,
        "exposure": None if change.exposure is None else asdict(change.exposure),
        "impact": cost,
    }


def diagnostic_row(problem: Diagnostic) -> Row:
    """Write one problem; `is_refusal` says that apply does not begin because of it."""
    return {
        "type": "diagnostic",
        "code": problem.code,
        "severity": problem.severity,
        "summary": problem.summary,
        "detail": problem.detail,
        "hint": problem.hint,
        "address": problem.address,
        "place": str(problem.span) if problem.span else None,
        "is_refusal": False,
    }


def _summary(plan: Plan) -> Row:
    added, changed, removed = counts(plan)
    return {
        "type": "change_summary",
        "changes": added + changed + removed,
        "harmless": sum(change.is_harmless for change in plan.changes),
        "add": added,
        "change": changed,
        "remove": removed,
        "unchanged": plan.unchanged,
        "reduced_seconds": round(plan.impact.reduced_s, 1),
        "read_bytes": plan.impact.read_bytes,
        "without_stand_in": plan.impact.without_stand_in,
        "deferred": len(plan.deferred),
        "is_empty": plan.is_empty,
        "is_refused": bool(plan.refusals),
    }
