"""A plan as lines and as JSON; what whole plans look like is in tests/cases/plan."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.exposure import ExposureChange
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.on_change import Deferral, OnChange
from kloros_infra.ir.plan import Action, Change, KeyChange, Plan
from kloros_infra.planner.diff import plan
from kloros_infra.planner.explain import HEADERS, SYMBOLS, change_lines, explain
from kloros_infra.planner.explain_json import changes_json, explain_json
from kloros_infra.planner.figures import seconds_text, size_text
from kloros_infra.planner.summary import NOTHING, applied_text
from tests.sites import Site, converged

A_WARNING = Diagnostic("KI502", "Weights are not pinned", "It is so.", "Do that.", severity=Severity.WARNING)


def a_plan(*actions: Action) -> Plan:
    return Plan(tuple(Change(f"file.{action}", action, "so it is") for action in actions), ())


def test_an_empty_plan_is_one_line_after_its_warnings() -> None:
    assert explain(Plan((), ()), (), width=80, color=False) == (NOTHING,)
    assert explain(Plan((), ()), (A_WARNING,), width=80, color=False)[-1] == NOTHING


@pytest.mark.parametrize("action", Action)
def test_the_legend_lists_only_what_is_used(action: Action) -> None:
    lines = explain(a_plan(action), (), width=80, color=False)
    legend = lines[1 : lines.index("")]
    assert [line.split()[0] for line in legend] == [SYMBOLS[action]]
    assert f"  # file.{action} {HEADERS[action]}" in lines


def test_the_summary_counts_what_happens_to_addresses() -> None:
    made = a_plan(*Action)
    assert "Plan: 1 to add, 4 to change, 1 to remove." in explain(made, (), width=80, color=False)
    assert applied_text(made) == "Apply complete! 1 added, 4 changed, 1 removed."


def test_colors_are_added_and_nothing_else() -> None:
    made = a_plan(*Action)
    plain, colored = (explain(made, (A_WARNING,), width=80, color=color) for color in (False, True))
    stripped = list(colored)
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"):
        stripped = [line.replace(code, "") for line in stripped]
    assert tuple(stripped) == plain
    assert colored != plain


@pytest.mark.parametrize("width", [10, 60, 100])
def test_long_values_are_cut_and_cannot_steer_the_terminal(width: int) -> None:
    keys = (KeyChange("key", "\x1b[2J" + "a" * 300, "\u202e" + "b" * 300), KeyChange("new", None, "c\n" * 300))
    lines = explain(Plan((Change("file.x", Action.UPDATE, "\x07so", keys),), ()), (), width=width, color=False)
    assert all(line.isprintable() for line in lines)
    shown = [line for line in lines if "key:" in line or "new:" in line]
    assert len(shown) == 2
    assert all("…" in line and len(line) <= max(width, 70) for line in shown)


def test_json_lines_tell_what_is_deferred_and_what_a_service_can_reach() -> None:
    change = Change(
        "instance.a", Action.UPDATE, "so", on_change=OnChange.DEFER, exposure=ExposureChange(1.1, 1.2, limit=1.5)
    )
    made = Plan((change,), (), deferred=(Deferral("instance.b", OnChange.RELOAD, "its definition differs"),))
    rows = [json.loads(line) for line in explain_json(made, ())]
    assert rows[1]["on_change"] == "defer"
    assert rows[1]["exposure"] == {"before": 1.1, "after": 1.2, "limit": 1.5}
    assert rows[2] == {
        "type": "deferred",
        "address": "instance.b",
        "on_change": "reload",
        "reason": "its definition differs",
    }
    assert rows[3]["deferred"] == 1


def test_json_lines_hold_the_same_plan() -> None:
    keys = (KeyChange("port", "1", None),)
    made = Plan(
        (Change("instance.a", Action.REPLACE, "so", keys, "restart", 2.04),), (), unchanged=3, refusals=(A_WARNING,)
    )
    rows = [json.loads(line) for line in explain_json(made, (A_WARNING,))]
    assert [row["type"] for row in rows] == ["version", "planned_change", "diagnostic", "change_summary"]
    assert rows[0]["format"] == "1.2"
    assert rows[1] == {
        "type": "planned_change",
        "address": "instance.a",
        "action": "replace",
        "reason": "so",
        "keys": [{"key": "port", "before": "1", "after": None}],
        "unit_action": "restart",
        "seconds": 2.0,
        "ignored_keys": [],
        "is_harmless": False,
        "on_change": None,
        "exposure": None,
        "impact": None,
    }
    assert (rows[2]["code"], rows[2]["severity"], rows[2]["is_refusal"]) == ("KI502", "warning", True)
    assert rows[3] == {
        "type": "change_summary",
        "changes": 1,
        "harmless": 0,
        "add": 0,
        "change": 1,
        "remove": 0,
        "unchanged": 3,
        "reduced_seconds": 0.0,
        "read_bytes": 0,
        "without_stand_in": [],
        "deferred": 0,
        "is_empty": False,
        "is_refused": True,
    }


def test_a_refusal_is_told_once() -> None:
    other = replace(A_WARNING, code="KI599")
    refusal = replace(A_WARNING, severity=Severity.ERROR)
    rows = [json.loads(line) for line in explain_json(Plan((), (), refusals=(refusal,)), (A_WARNING, other))]
    told = [(row["code"], row["severity"], row["is_refusal"]) for row in rows if row["type"] == "diagnostic"]
    assert told == [("KI599", "warning", False), ("KI502", "error", True)]


def test_changes_alone_are_rows_as_well() -> None:
    rows = [json.loads(line) for line in changes_json((Change("file.x", Action.CREATE, "so"),))]
    assert [row["type"] for row in rows] == ["version", "planned_change"]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (91_700_000, "91.7 MB"), (19 * 10**9, "19.0 GB")]
)
def test_sizes_are_decimal(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (4.4, "4 s"), (89, "89 s"), (120, "2 min")])
def test_durations_are_rough(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_json_rows_of_every_type_are_written() -> None:
    site = Site(purposes={"code": ("code", "chat")})
    code, chat = site.models
    before = replace(site, models=(replace(code, vram="a:1/2"), chat))
    after = replace(site, models=(replace(code, vram="a:1/2", context=9), chat))
    masked = UnitState("llama@chat-max.service", ActiveState.ACTIVE, is_masked=True)
    observed = converged(before.desired())
    observed = replace(observed, units={**observed.units, masked.unit: masked})
    rows = [json.loads(line) for line in explain_json(plan(after.desired(), observed)[0], ())]
    by_type = {row["type"]: row for row in rows}
    assert by_type["card_memory"]["card"] == "a"
    assert by_type["detour"] == {
        "type": "detour",
        "purpose": "code",
        "unit": "llama@code-max.service",
        "stand_in": "llama@chat-max.service",
    }
    assert by_type["drift"]["address"] == "instance.chat-max"
    assert by_type["change_summary"]["reduced_seconds"] == 5.0
    changed = next(row for row in rows if row.get("address") == "instance.code-max")
    assert changed["impact"]["seconds_down"] == 5.0
    assert changed["impact"]["requests"] is None


def test_changes_alone_are_blocks_without_a_summary() -> None:
    lines = change_lines((Change("file.x", Action.CREATE, "so"),), width=80, color=False)
    assert lines == ("  # file.x will be created", "  # (because so)", "  + file.x", "")
