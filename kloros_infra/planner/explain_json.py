"""A plan as JSON lines for programs: one object per line, the first says the version of the format.

Within a major version keys are only added; a reader ignores those it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.plan import Plan

FORMAT_VERSION = "1.0"


def explain_json(plan: Plan, problems: Iterable[Diagnostic]) -> tuple[str, ...]:
    """Write a plan as one JSON object per line: version, changes, diagnostics, summary."""
    return tuple(json.dumps(row, ensure_ascii=True) for row in _rows(plan, problems))


def _rows(plan: Plan, problems: Iterable[Diagnostic]) -> Iterator[dict[str, object]]:
    yield {"type": "version", "format": FORMAT_VERSION}
    for change in plan.changes:
        yield {
            "type": "planned_change",
            "address": change.address,
            "action": change.action,
            "reason": change.reason,
            "keys": [{"key": key.key, "before": key.before, "after": key.after} for key in change.keys],
            "unit_action": change.unit_action,
            "seconds": round(change.seconds, 1),
        }
    for problem in problems:
        yield {
            "type": "diagnostic",
            "code": problem.code,
            "severity": problem.severity,
            "summary": problem.summary,
            "detail": problem.detail,
            "hint": problem.hint,
            "address": problem.address,
        }
    yield {
        "type": "change_summary",
        "changes": len(plan.changes),
        "unchanged": plan.unchanged,
        "is_empty": plan.is_empty,
        "is_refused": bool(plan.refusals),
    }
