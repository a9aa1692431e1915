"""`gpu list`, as people and programs read it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kloros_infra.cli.gpu_views import GpuList, bar, list_data, list_lines, problems_in, read_list, summary_lines
from kloros_infra.diagnostics import Severity
from kloros_infra.ir.cards_report import CardsReport, ReportedCard, ReportedHolder, ReportedProblem
from tests.factories import a_routing_table
from tests.gpu_sites import RTX_3060, RTX_5080, a_gpu_site, a_gpu_table

NOW = datetime(2026, 1, 30, 21, 0).astimezone()


def after(minutes: float) -> float:
    return (NOW + timedelta(minutes=minutes)).timestamp()


GAME = ReportedHolder(pid=4711, name="game.exe", held_mib=4000)
LOCKED = ReportedCard(
    card="rtx5080",
    state="locked",
    reason="locked out until 22:00: gaming",
    until_epoch_s=after(60),
    total_mib=16000,
    used_mib=8000,
    foreign_mib=4000,
    holders=(GAME, *(ReportedHolder(pid=pid, name="Xorg", held_mib=None) for pid in (1, 2, 3, 4))),
)
FREE = ReportedCard(card="rtx3060", state="eligible", reason="free", total_mib=12000, used_mib=0, foreign_mib=0)
AWAY = ReportedCard(card="lent", state="absent", reason="absent")
SILENT = ReportedCard(card="gtx1080ti", state="eligible", reason="present", total_mib=11000)
REPORT = CardsReport(
    profile="mid",
    reason="'mid' has its cards rtx3060; 'max' lacks rtx5080.",
    since_epoch_s=after(-5),
    held_until_epoch_s=after(60),
    next_profile="max",
    next_epoch_s=after(60.5),
    cards=(LOCKED, FREE, AWAY, SILENT),
)


def lines_of(report: CardsReport, **also: object) -> list[str]:
    found = GpuList(report, NOW - timedelta(minutes=5), **also)  # type: ignore[arg-type]
    return list(list_lines(found, NOW))


def test_each_card_is_a_row_below_what_is_active_and_why() -> None:
    head, following, _, header, locked, free, away, silent, _, legend, age = lines_of(REPORT)
    assert head == "Profile mid: 'mid' has its cards rtx3060; 'max' lacks rtx5080."
    assert following == "If nothing changes, max follows at 22:00:30."
    assert [cell.strip() for cell in header.split("  ") if cell] == [
        "GPU", "STATE", "MEMORY", "USED BY OTHERS", "UNTIL", "WHY",
    ]  # fmt: skip
    assert [cell.strip() for cell in locked.split("  ") if cell.strip()] == [
        "rtx5080",
        "locked",
        "[#####+++++..........] 8.4 GB of 16.8 GB",
        "game.exe (4711) 4.2 GB, Xorg (1), Xorg (2), 2 more",
        "22:00",
        "locked out until 22:00: gaming",
    ]
    assert "eligible  [....................] 0 B of 12.6 GB" in free
    assert away.split() == ["lent", "absent", "-", "-", "-", "absent"]
    assert silent.split() == ["gtx1080ti", "eligible", "11.5", "GB", "-", "-", "present"]
    assert legend.startswith("Memory: # ours, + of others, ")
    assert age == "So since 20:55, 5 min ago."


@pytest.mark.parametrize(
    ("amounts", "drawn"),
    [
        ((1000, 0, 0), "...................."),
        ((1000, 1000, 0), "####################"),
        ((1000, 500, 500), "++++++++++.........."),
        ((1000, 500, 250), "#####+++++.........."),
        ((1000, 500, None), "??????????.........."),
        ((1000, 1, 0), "#..................."),
        ((1000, 2, 1), "#+.................."),
        ((1000, 1000, 999), "++++++++++++++++++++"),
        ((1000, 400, 900), "++++++++++++++++++.."),
        ((0, 5, 5), "...................."),
    ],
)
def test_the_bar_shows_whose_the_memory_is(amounts: tuple[int, int, int | None], drawn: str) -> None:
    assert bar(*amounts) == drawn


def test_who_else_uses_a_card_is_told_where_it_cannot_be_used() -> None:
    rows = lines_of(REPORT, shared_with={"rtx5080": "games", "rtx3060": "the desktop"})
    assert [line.endswith("; shared with games") for line in rows if line.startswith("rtx5080")] == [True]
    assert not any("the desktop" in line for line in rows)


def test_a_pin_is_told_with_the_profile() -> None:
    assert lines_of(REPORT.model_copy(update={"pin": "mid"}))[0].startswith("Profile mid, pinned: ")
    assert lines_of(REPORT.model_copy(update={"pin": "max"}))[0].startswith("Profile mid (max is pinned): ")


def test_what_comes_next_is_told_as_far_as_that_is_known() -> None:
    soon = REPORT.model_copy(update={"next_epoch_s": after(0.5)})
    assert lines_of(soon)[1] == "If nothing changes, max follows at 21:00:30, in 30 s."
    tomorrow = REPORT.model_copy(update={"next_epoch_s": after(24 * 60)})
    assert lines_of(tomorrow)[1] == "If nothing changes, max follows tomorrow 21:00."
    held = REPORT.model_copy(update={"next_profile": None, "next_epoch_s": None})
    assert lines_of(held)[1] == "If nothing changes, mid stays; the state of a GPU changes at 22:00."
    assert lines_of(held.model_copy(update={"held_until_epoch_s": None}))[1] == ""


def test_it_says_how_old_it_is_and_whether_anybody_follows() -> None:
    assert list(list_lines(GpuList(REPORT, None), NOW))[-1].startswith("Nobody follows the GPUs here")
    assert lines_of(REPORT, is_pending=True)[-1].startswith("Something has changed, and nobody has looked at it yet")


def test_without_any_figures_there_is_no_legend_but_other_hardware_is_told() -> None:
    bare = REPORT.model_copy(update={"cards": (AWAY,), "hardware_changes": ("rtx3060 has 8 GB, not 12 GB",)})
    *_, age, last = lines_of(bare)
    assert not any(line.startswith("Memory:") for line in lines_of(bare))
    assert (age.startswith("So since"), last) == (True, "Other hardware: rtx3060 has 8 GB, not 12 GB.")
    assert list(summary_lines(bare, NOW))[-1] == "Other hardware: rtx3060 has 8 GB, not 12 GB."
    assert list(summary_lines(bare.model_copy(update={"cards": ()}), NOW)) == []


def test_programs_get_all_of_it() -> None:
    written = NOW - timedelta(minutes=5)
    shared_with = {"rtx5080": "games"}
    data = json.loads(json.dumps(list_data(GpuList(REPORT, written, is_pending=True, shared_with=shared_with))))
    assert data["shared_with"] == shared_with
    assert (data["version"], data["profile"], data["is_pending"]) == (1, "mid", True)
    assert data["written_epoch_s"] == written.timestamp()
    assert data["cards"][0]["holders"][0] == {"pid": 4711, "name": "game.exe", "held_mib": 4000}
    assert list_data(GpuList(REPORT, None))["written_epoch_s"] is None


def test_problems_are_shown_as_everywhere_else() -> None:
    told = ReportedProblem(code="KI900", severity="warning", summary="Not read", detail="It is.", hint="Read it.")
    (problem,) = problems_in(REPORT.model_copy(update={"problems": (told,)}))
    assert (problem.code, problem.severity, problem.hint) == ("KI900", Severity.WARNING, "Read it.")


def test_what_nobody_has_noted_is_found_out_and_nothing_written(tmp_path: Path) -> None:
    site = a_gpu_site(tmp_path)
    found = read_list(site, follows=None)
    assert (found.written, found.report.profile) == (None, "max")
    assert not (site.where.root / site.where.layout.run).exists()


def test_what_was_noted_is_read(tmp_path: Path) -> None:
    shared = RTX_5080.model_copy(update={"shared_with": "games"})
    site = a_gpu_site(tmp_path, a_gpu_table(shared, RTX_3060))
    file = site.where.root / site.where.layout.cards_file
    file.parent.mkdir(parents=True)
    file.write_text(REPORT.model_dump_json())
    found = read_list(site, follows=True)
    assert (found.report, found.is_pending, found.shared_with) == (REPORT, False, {"rtx5080": "games"})
    (site.where.root / site.where.layout.dirty_file).touch()
    assert read_list(site, follows=None).is_pending
    # Whoever noted it follows the cards no more.
    now = read_list(site, follows=False)
    assert (now.written, now.report.profile, list(list_lines(now, NOW))[-1][:28]) == (
        None,
        "max",
        "Nobody follows the GPUs here",
    )


def test_profiles_without_cards_have_nothing_to_list(tmp_path: Path) -> None:
    found = read_list(a_gpu_site(tmp_path, a_routing_table()), follows=True)
    assert (found.report.cards, found.report.profile) == ((), "cpu_only")


def test_a_lockout_that_ends_after_the_calendar_is_shown(tmp_path: Path) -> None:
    late = datetime.fromisoformat("9999-12-31T23:59:59-12:00").timestamp()
    report = REPORT.model_copy(update={"cards": (LOCKED.model_copy(update={"until_epoch_s": late}),)})
    assert "  9999-01-01 " in lines_of(report)[4]


def test_status_says_it_in_short() -> None:
    told = ReportedProblem(code="KI900", severity="warning", summary="Not read", detail="It is.")
    first, second, third = summary_lines(REPORT.model_copy(update={"problems": (told,)}), NOW)
    assert first == "Why mid: 'mid' has its cards rtx3060; 'max' lacks rtx5080."
    assert second == "If nothing changes, max follows at 22:00:30."
    assert third == "`kloros-infra gpu list` tells of 1 problem with the GPUs."
    assert len(list(summary_lines(REPORT.model_copy(update={"next_profile": None}), NOW))) == 1
