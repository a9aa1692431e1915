"""What a report of the cards means for instances."""

from __future__ import annotations

from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.routing import RoutedShare
from kloros_infra.router.cards import Bar, Cards, cards_of, have_opened, stand
from kloros_infra.router.events import CardsStand, ClosedCard
from tests.unit.router.told import an_instance

LOCKED = ReportedCard(card="rtx5080", state="locked", reason="locked out: gaming", until_epoch_s=5000.0)
GONE = ReportedCard(card="gtx1080", state="absent", reason="absent")
TAKEN = ReportedCard(card="rtx3060", state="taken", reason="others use 9 GiB")
FREE = ReportedCard(card="rtx2060", state="eligible", reason="no profile needs it")
REPORT = CardsReport(profile="mid", reason="so", since_epoch_s=1.0, cards=(LOCKED, GONE, TAKEN, FREE))


def test_closed_are_those_on_which_nothing_may_run_and_times_are_of_the_cores_clock() -> None:
    closed = (ClosedCard("rtx5080", "locked out: gaming", 1000.0), ClosedCard("gtx1080", "absent"))
    found = stand("mid", REPORT, epoch_offset_s=4000.0)
    assert found == CardsStand("mid", closed, ("rtx5080", "gtx1080", "rtx3060"))


def test_without_a_report_every_card_may_be_used() -> None:
    assert stand("max", None) == CardsStand("max")
    assert cards_of(stand("max", None)) == Cards()


def test_an_instance_without_a_share_of_a_card_is_not_concerned() -> None:
    cards = cards_of(stand("mid", REPORT))
    free = an_instance("a", shares=())
    other = an_instance("a", shares=(RoutedShare(card="rtx2060", mib=1),))
    taken = an_instance("a", shares=(RoutedShare(card="rtx3060", mib=1),))
    closed = an_instance("a", shares=(RoutedShare(card="rtx5080", mib=1), RoutedShare(card="rtx2060", mib=1)))
    assert [cards.bar(each) for each in (free, other, taken)] == [None, None, None]
    assert cards.bar(closed) == Bar("its card rtx5080 is locked out: gaming", 5000.0)
    assert [cards.may_stay(each) for each in (free, other, taken, closed)] == [True, True, False, False]


def test_cards_open_when_they_are_neither_closed_nor_used_by_others() -> None:
    before = cards_of(stand("mid", REPORT))
    taken = LOCKED.model_copy(update={"state": "taken"})
    after = cards_of(stand("mid", REPORT.model_copy(update={"cards": (taken, FREE)})))
    assert have_opened(before, after) == {"gtx1080", "rtx3060"}
    assert have_opened(after, before) == frozenset()
