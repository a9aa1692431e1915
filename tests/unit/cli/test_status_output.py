"""The status of an installation as a person and as a program read it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from kloros_infra.cli.status_output import status_json, status_lines
from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.generation import Interrupted
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.ir.unit_status import CardUse, Remedy, Status, Unconfirmed, UnitStatus

CODE = UnitStatus(
    unit="llama@code-max.service",
    name="code",
    profile="max",
    state="ready",
    main_pid=42,
    cards=(CardUse("rtx3060", 5 * 10**9, is_measured=True), CardUse("gtx1080ti", 2 * 10**9, is_measured=False)),
    context_tokens=8192,
    slots=2,
    requests=3,
    until="always",
)
ROUTER = UnitStatus(
    "kloros-router.service", "router", "", "failed", 0, last_error="exit-code 1: no bus", until="always"
)


def rows(status: Status) -> list[list[str]]:
    """Split the table at its columns, which are two blanks apart."""
    lines = tuple(status_lines(status))
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_each_unit_is_a_row() -> None:
    first, header, code, router = rows(Status(3, 3, "max", (CODE, ROUTER)))
    assert first == ["Generation 3, profile max."]
    assert header[:5] == ["NAME", "PROFILE", "STATE", "PID", "VRAM"]
    assert code[:5] == ["code", "max", "ready", "42", "rtx3060 5.0 GB, gtx1080ti ~2.0 GB"]
    assert code[5:] == ["8192", "2/2, 1 waiting", "always", "-"]
    assert router == ["router", "-", "failed", "-", "-", "-", "-", "always", "exit-code 1: no bus"]


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (StopCause.IDLE, "stopped (idle)"),
        (StopCause.ROOM, "stopped (others need its memory)"),
        (StopCause.ASKED, "stopped (by modelctl)"),
        (StopCause.CRASH, "stopped (has crashed)"),
        (StopCause.FAILED, "stopped"),
        (None, "stopped"),
    ],
)
def test_what_the_router_has_stopped_says_what_for(cause: StopCause | None, words: str) -> None:
    stopped = replace(CODE, state="stopped", main_pid=0, cards=(), requests=None, stopped_for=cause)
    *_, row = rows(Status(3, 3, "max", (stopped,)))
    assert row[2] == words
    assert json.loads(status_json(Status(3, 3, "max", (stopped,))))["units"][0]["stopped_for"] == cause
    *_, row = rows(Status(3, 3, "max", (replace(CODE, stopped_for=cause),)))
    assert row[2] == "ready", "it has been started meanwhile"


@pytest.mark.parametrize(
    ("remedy", "words"), [(Remedy.COMPLETE, "had switched already"), (Remedy.UNDO, "`kloros-infra recover` undoes it")]
)
def test_an_interruption_and_a_generation_that_is_not_good_are_said(remedy: Remedy, words: str) -> None:
    interrupted = Interrupted("switch to generation 3", "2026-01-01")
    first, second = status_lines(Status(3, 2, "max", interrupted=interrupted, remedy=remedy))
    assert first == "Generation 3, which has not been found good, profile max."
    assert "interrupted at: switch to generation 3 (2026-01-01)" in second
    assert words in second
    assert "kloros-infra recover" in second


def test_an_apply_at_work_is_no_interruption() -> None:
    _, second = status_lines(Status(3, 3, "max", apply_in_work="wait for llama@code-max.service"))
    assert second == "An apply is at work: wait for llama@code-max.service."


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (Unconfirmed(2, 45.0), "undone in 45 s, to generation 2, unless you run `kloros-infra confirm`"),
        (Unconfirmed(None, 0.0), "being undone, to no generation. If not, run `kloros-infra recover`"),
        (Unconfirmed(2, None), "being undone, to generation 2"),
    ],
)
def test_what_waits_to_be_confirmed_is_said(waiting: Unconfirmed, words: str) -> None:
    _, second = status_lines(Status(3, 3, "max", unconfirmed=waiting))
    assert words in second


def test_nothing_installed() -> None:
    assert list(status_lines(Status(None, None, ""))) == ["Nothing is installed here."]


def test_json_has_all_of_it() -> None:
    found = json.loads(status_json(Status(3, 3, "max", (CODE,))))
    assert found["version"] == 1
    assert found["units"][0]["cards"][1] == {"card": "gtx1080ti", "used_bytes": 2 * 10**9, "is_measured": False}


def test_it_says_why_the_profile_is_and_what_comes_next() -> None:
    now = datetime(2026, 1, 30, 21, 0).astimezone()
    report = CardsReport(
        profile="mid",
        reason="'mid' has its cards rtx3060; 'max' lacks rtx5080 (locked out until 22:00: gaming).",
        since_epoch_s=now.timestamp(),
        next_profile="max",
        next_epoch_s=now.timestamp() + 3600,
        cards=(ReportedCard(card="rtx3060", state="eligible", reason="free"),),
    )
    status = Status(3, 3, "mid", cards=report)
    assert list(status_lines(status, now)) == [
        "Generation 3, profile mid.",
        f"Why mid: {report.reason}",
        "If nothing changes, max follows at 22:00.",
    ]
    assert json.loads(status_json(status))["cards"]["next_profile"] == "max"
    assert json.loads(status_json(Status(3, 3, "mid")))["cards"] is None
