"""The cards in the words of ChemBus."""

from __future__ import annotations

from kloros_infra.daemon.card_reports import outline, profile_facts, profile_gpus, warnings
from kloros_infra.ir.cards_report import CardsReport, ReportedCard, ReportedHolder, ReportedProblem
from kloros_infra.ir.routing import RoutedCard, RoutedProfile
from tests.factories import a_routing_table

CARDS = {name: RoutedCard(name=name, uuid=None, pci=None) for name in ("rtx5080", "rtx3060")}
TABLE = a_routing_table().model_copy(
    update={
        "profiles": (
            RoutedProfile(name="max", cards=(CARDS["rtx5080"], CARDS["rtx3060"])),
            RoutedProfile(name="mid", cards=(CARDS["rtx3060"],)),
        )
    }
)
GAME = ReportedHolder(pid=7, name="game", held_mib=5120)
OTHER = ReportedHolder(pid=8, name="compositor", held_mib=None)
LOCKED = ReportedCard(
    card="rtx5080",
    state="locked",
    reason="locked out until 22:00: gaming",
    until_epoch_s=1_700_000_000.0,
    total_mib=16384,
    used_mib=5200,
    holders=(
        ReportedHolder(pid=7, name="game", held_mib=5120),
        ReportedHolder(pid=8, name="compositor", held_mib=None),
    ),
)
PROBLEM = ReportedProblem(code="KI901", severity="warning", summary="Torn", detail="it is torn.", hint="Mend it.")
REPORT = CardsReport(
    profile="mid",
    reason="'max' lacks rtx5080",
    since_epoch_s=1.0,
    held_until_epoch_s=1_700_000_030.0,
    next_profile="max",
    pin=None,
    cards=(LOCKED,),
    problems=(PROBLEM,),
    hardware_changes=("a card is new",),
)
NOTHING_KNOWN: dict[str, object] = {"vram_free_gb": None, "state": None, "reason": None, "until": None, "holders": []}


def test_where_nobody_looks_those_are_eligible_that_the_profile_uses() -> None:
    assert profile_gpus(TABLE, "mid", None) == [
        {"index": 0, "name": "rtx5080", "eligible": False, **NOTHING_KNOWN},
        {"index": 1, "name": "rtx3060", "eligible": True, **NOTHING_KNOWN},
    ]
    assert [gpu["eligible"] for gpu in profile_gpus(TABLE, "gone", None)] == [False, False]


def test_the_profile_is_told_with_its_reason_and_what_follows() -> None:
    facts = profile_facts(TABLE, "mid", REPORT)
    assert facts["gpus"][0] == {
        "index": 0,
        "name": "rtx5080",
        "vram_free_gb": 10.9,
        "eligible": False,
        "state": "locked",
        "reason": "locked out until 22:00: gaming",
        "until": "2023-11-14T22:13:20Z",
        "holders": [{"pid": 7, "name": "game", "vram_gb": 5.0}, {"pid": 8, "name": "compositor", "vram_gb": None}],
    }
    assert facts["gpus"][1]["state"] is None
    del facts["gpus"]
    assert facts == {
        "profile": "mid",
        "reason": "'max' lacks rtx5080",
        "held_until": "2023-11-14T22:13:50Z",
        "next_profile": "max",
        "pin": None,
    }


def test_the_reason_is_that_of_the_profile_that_was_decided() -> None:
    assert profile_facts(TABLE, "max", REPORT)["reason"] is None
    assert profile_facts(TABLE, "max", None)["reason"] is None


def test_more_used_than_there_is_leaves_nothing_free() -> None:
    full = LOCKED.model_copy(update={"used_mib": 17000})
    unknown = LOCKED.model_copy(update={"used_mib": None})
    found = [profile_gpus(TABLE, "mid", REPORT.model_copy(update={"cards": (card,)})) for card in (full, unknown)]
    assert [gpus[0]["vram_free_gb"] for gpus in found] == [0.0, None]


def test_warnings_are_problems_and_changes_of_the_hardware() -> None:
    assert warnings(REPORT) == [
        {"code": "KI901", "severity": "warning", "message": "Torn: it is torn."},
        {"code": None, "severity": "warning", "message": "a card is new"},
    ]
    assert warnings(None) == []


def test_figures_are_no_news_and_states_are() -> None:
    fuller = REPORT.model_copy(update={"cards": (LOCKED.model_copy(update={"used_mib": 1, "reason": "1 MiB"}),)})
    gone = REPORT.model_copy(update={"cards": (LOCKED.model_copy(update={"state": "absent"}),)})
    assert outline(REPORT) == outline(fuller) != outline(gone)
    assert outline(None) is None
