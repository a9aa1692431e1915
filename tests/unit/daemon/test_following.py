"""What the router takes up of the files that others write: each thing once, and what belongs together in one step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.following import BETWEEN_S, Following
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.routing import RoutedShare, RoutingTable
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Effect
from kloros_infra.router.events import CardsStand, Event
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.bus import StillClock
from tests.fakes.hands import FakeHands

MAX = an_upstream("small-max").model_copy(update={"shares": (RoutedShare(card="rtx5080", mib=1),)})
GONE = ReportedCard(card="rtx5080", state="absent", reason="absent")
THERE = ReportedCard(card="rtx5080", state="eligible", reason="all to itself")


def a_report(profile: str, card: ReportedCard, **changes: object) -> CardsReport:
    report = CardsReport(profile=profile, reason="so it is", since_epoch_s=1.0, cards=(card,))
    return report.model_copy(update=changes)


class TellingCore(Core):
    """Remembers how the cards were said to stand; nothing is ever due."""

    stands: tuple[CardsStand, ...] = ()

    def on(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, CardsStand):
            self.stands = (*self.stands, event)
        return super().on(event, now)

    def next_at(self) -> None:
        return None


@dataclass
class Site:
    """A folder with the files, and a router's core that follows them."""

    folder: Path
    clock: StillClock
    core: TellingCore
    desk: Desk
    following: Following

    def write(self, *, profile: str | None = None, report: CardsReport | None = None) -> None:
        """Replace files as whoever decides does: first the report."""
        if report is not None:
            _replace(self.folder / "gpu_cards.json", report.model_dump_json())
        if profile is not None:
            _replace(self.folder / "gpu_profile", profile + "\n")

    def told(self) -> tuple[CardsStand, ...]:
        """Give what was told since this was last asked."""
        found, self.core.stands = self.core.stands, ()
        return found


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


def a_table(folder: Path, **changes: object) -> RoutingTable:
    table = a_routing_table(a_routed_model("small", MAX, an_upstream("small-mid")), profiles=("max", "mid"))
    files = {"profile_file": str(folder / "gpu_profile"), "cards_file": str(folder / "gpu_cards.json")}
    return table.model_copy(update={**files, **changes})


def a_site(folder: Path, table: RoutingTable | None = None) -> Site:
    clock = StillClock()
    _replace(folder / "routing.json", (table or a_table(folder)).model_dump_json())
    if not (folder / "gpu_profile").exists():
        _replace(folder / "gpu_profile", "max\n")
    following = Following(str(folder / "routing.json"), lambda path: WatchedFile(Path(path)), clock)
    core = TellingCore(following.table, profile=following.profile, now=clock.now())
    desk = Desk(core, clock)
    following.attach(desk)
    return Site(folder, clock, core, desk, following)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return a_site(tmp_path)


def test_a_switch_is_told_in_one_step_with_its_reason_and_the_cards(site: Site) -> None:
    site.write(report=a_report("mid", GONE), profile="mid")
    site.desk.follow()
    (stand,) = site.told()
    assert (stand.profile, stand.ineligible, stand.reason) == ("mid", ("rtx5080",), "so it is")
    assert [card.card for card in stand.closed] == ["rtx5080"]
    assert (site.desk.profile, site.desk.cards) == ("mid", a_report("mid", GONE))
    site.desk.follow()
    assert site.told() == ()


def test_a_switch_that_changes_no_instance_is_known_to_all_who_ask(tmp_path: Path) -> None:
    shared = an_upstream("small-max")
    model = a_routed_model("small", shared).model_copy(
        update={"upstreams": (shared, shared.model_copy(update={"profile": "mid"}))}
    )
    site = a_site(tmp_path, a_table(tmp_path, models=(model,)))
    site.write(profile="mid")
    site.desk.follow()
    assert (site.core.profile, site.desk.profile) == ("mid", "mid")


def test_a_report_waits_for_the_profile_that_it_names(site: Site) -> None:
    site.write(report=a_report("mid", GONE))
    site.desk.follow()
    assert site.told() == (), "requests that wait are not to be refused between the two files"
    site.write(profile="mid")
    site.desk.follow()
    assert [stand.profile for stand in site.told()] == ["mid"]


def test_but_not_for_ever(site: Site) -> None:
    site.write(report=a_report("mid", GONE))
    site.desk.follow()
    site.clock.seconds += BETWEEN_S / 2
    site.desk.follow()
    assert site.told() == ()
    site.clock.seconds += BETWEEN_S
    site.desk.follow()
    (stand,) = site.told()
    assert (stand.profile, len(stand.closed), stand.reason) == ("max", 1, "")


def test_a_profile_that_is_written_without_a_report_holds_at_once(site: Site) -> None:
    site.write(report=a_report("max", THERE))
    site.desk.follow()
    site.write(profile="mid")
    site.desk.follow()
    assert [stand.profile for stand in site.told()] == ["mid"]


def test_a_profile_that_was_read_while_a_report_waited_is_not_forgotten(site: Site) -> None:
    site.write(report=a_report("other", GONE), profile="mid")
    site.desk.follow()
    assert site.told() == ()
    site.clock.seconds += 2 * BETWEEN_S
    site.desk.follow()
    assert [stand.profile for stand in site.told()] == ["mid"]


def test_other_figures_are_kept_for_those_who_report_and_are_nothing_to_the_core(site: Site) -> None:
    site.write(report=a_report("max", THERE))
    site.desk.follow()
    assert site.told() == ()
    fuller = a_report("max", THERE.model_copy(update={"used_mib": 900}))
    site.desk.changed.clear()
    site.write(report=fuller)
    site.desk.follow()
    assert (site.told(), site.desk.cards, site.desk.changed.is_set()) == ((), fuller, True)


def test_the_cards_are_known_before_anything_is_started(tmp_path: Path) -> None:
    _replace(tmp_path / "gpu_cards.json", a_report("mid", GONE).model_dump_json())
    site = a_site(tmp_path)
    (stand,) = site.told()
    assert (stand.profile, len(stand.closed)) == ("max", 1), "what the profile file says holds, and the card is closed"


def test_a_report_that_cannot_be_read_leaves_everything_as_it_was(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write(report=a_report("mid", GONE), profile="mid")
    site.desk.follow()
    assert site.told()
    for text in (b"", b'{"profile": 1}', b"\xff"):
        (site.folder / "gpu_cards.json").write_bytes(text)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            site.desk.follow()
            site.desk.follow()
        assert [record.message[:5] for record in caplog.records] == ["KI877"], "it is said once"
    (site.folder / "gpu_cards.json").unlink()
    site.desk.follow()
    (site.folder / "gpu_cards.json").mkdir()
    site.desk.follow()
    assert (site.told(), site.desk.cards) == ((), a_report("mid", GONE))


def test_a_table_where_nobody_looks_at_cards_opens_them(site: Site) -> None:
    site.write(report=a_report("mid", GONE), profile="mid")
    site.desk.follow()
    assert site.told()
    _replace(site.folder / "routing.json", a_table(site.folder, cards_file=None).model_dump_json())
    site.desk.follow()
    assert (site.told(), site.desk.cards) == ((CardsStand("mid"),), None)


def test_a_table_is_taken_up_before_the_profile_that_it_brings(site: Site) -> None:
    table = a_table(site.folder)
    more = table.model_copy(
        update={"profiles": (*table.profiles, table.profiles[0].model_copy(update={"name": "low"}))}
    )
    _replace(site.folder / "routing.json", more.model_dump_json())
    site.write(report=a_report("low", THERE), profile="low")
    site.desk.follow()
    assert [stand.profile for stand in site.told()] == ["low"]


def test_a_broken_table_changes_nothing_and_is_said(site: Site) -> None:
    (site.folder / "routing.json").write_text("{")
    site.write(profile="mid")
    site.desk.follow()
    assert site.desk.health()["problem"]["code"] == "KI813"
    assert [stand.profile for stand in site.told()] == ["mid"]


def test_news_of_the_cards_are_said_aloud(tmp_path: Path) -> None:
    site = a_site(tmp_path)
    hands = FakeHands(site.desk)
    site.write(report=a_report("max", THERE))
    site.desk.follow()
    assert hands.announcements == []
    site.write(report=a_report("mid", GONE), profile="mid")
    site.desk.follow()
    said = [(announce.news.value, announce.subject) for announce in hands.announcements]
    assert said == [("profile_changed", "mid"), ("card_gone", "rtx5080")]


def test_without_a_table_there_is_nothing_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as raised:
        Following(str(tmp_path / "routing.json"), lambda path: WatchedFile(Path(path)), StillClock())
    assert [problem.code for problem in raised.value.problems] == ["KI813"]
