"""The report as a whole: every check has its line, and every line what it needs."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kloros_infra.doctor.check import Kind, Status
from kloros_infra.doctor.examine import NAMES, RULES, examine, has_failed
from kloros_infra.doctor.facts import Facts, Unseen
from tests.unit.doctor.healthy import HEALTHY

CHECKOUT = Path(__file__).parents[3]
SEEN = [field.name for field in fields(Facts) if field.name != "wanted"]
KINDS = {
    kind.code: kind
    for rule in RULES
    for kind in vars(__import__(rule.look.__module__, fromlist=["x"])).values()
    if isinstance(kind, Kind)
}


def test_on_a_healthy_machine_each_check_has_lines_and_all_are_well() -> None:
    checks = examine(HEALTHY)

    assert {check.name for check in checks} == set(NAMES)
    assert {(check.status, check.code, check.why, check.fix) for check in checks} == {(Status.OK, "", "", "")}
    assert not has_failed(checks)


def test_groups_stand_together() -> None:
    groups = [rule.group for rule in RULES]

    assert sorted(groups, key=groups.index) == groups
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("fact", SEEN)
def test_what_cannot_be_seen_is_a_warning_that_says_why(fact: str) -> None:
    changed: dict[str, Any] = {fact: Unseen("it is hidden", "Ask its owner.")}
    checks = examine(replace(HEALTHY, **changed))

    unseen = [check for check in checks if check.code]
    assert unseen
    assert {check.status for check in unseen} == {Status.WARNING}
    assert all("it is hidden" in check.detail for check in unseen)
    assert {check.code for check in unseen} == ({"KI952"} if fact == "overrider" else {"KI930"})
    if fact != "overrider":
        assert {check.fix for check in unseen} == {"Ask its owner."}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_says_why_it_matters_and_what_mends_it(kind: Kind) -> None:
    assert kind.status is not Status.OK
    assert len(kind.why) > 20
    assert kind.fix


def test_only_those_that_are_named_are_made() -> None:
    assert [check.name for check in examine(HEALTHY, ("clock", "driver"))] == ["driver", "clock"]


def test_every_check_is_described() -> None:
    page = (CHECKOUT / "docs" / "doctor.md").read_text()

    assert [name for name in NAMES if f"| `{name}` |" not in page] == []
    assert [code for code in (*KINDS, "KI930") if code not in page] == []
