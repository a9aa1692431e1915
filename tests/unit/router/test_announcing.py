"""What is said aloud: at once, then no more than once in a pause, and never what holds no longer."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.announcements import STANDARD_TEXTS, News, NewsKind
from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.routing import RoutedAnnouncements
from kloros_infra.router.announcing import Announcer, card_news
from kloros_infra.router.effects import Announce

ALL = RoutedAnnouncements(kinds=tuple(NewsKind), least_interval_s=30.0, urgency=0.5, texts=dict(STANDARD_TEXTS))


def said(
    announcer: Announcer, now: float, *news: Announce, wanted: RoutedAnnouncements | None = ALL
) -> tuple[str, ...]:
    for one in news:
        announcer.take(one)
    return announcer.due(wanted, now)


def profile(name: str) -> Announce:
    return Announce(News.PROFILE_CHANGED, name)


def down(name: str, reason: str = "") -> Announce:
    return Announce(News.INSTANCE_DOWN, name, reason)


def up(name: str) -> Announce:
    return Announce(News.INSTANCE_UP, name)


def test_the_first_news_are_said_at_once_each_kind_for_itself() -> None:
    found = said(
        Announcer(),
        5.0,
        profile("mid"),
        down("code-max"),
        Announce(News.CARD_LOCKED, "rtx5080", "gaming"),
        Announce(News.REMOTE_UNAVAILABLE, "AltimitOS"),
    )
    assert found == (
        "The profile is mid now.",
        "code-max is down.",
        "rtx5080 is locked out.",
        "AltimitOS unavailable",
    )


def test_kloros_says_its_own_words_of_remote_hosts() -> None:
    texts = [
        said(Announcer(), 0.0, Announce(news, "AltimitOS"))
        for news in (News.REMOTE_DISABLED, News.REMOTE_CONNECTED, News.REMOTE_UNAVAILABLE)
    ]
    assert texts == [("Remote disabled",), ("Connected to AltimitOS",), ("AltimitOS unavailable",)]


def test_what_follows_within_the_pause_waits_and_the_latest_wins() -> None:
    announcer = Announcer()
    assert said(announcer, 0.0, profile("mid")) == ("The profile is mid now.",)
    assert announcer.next_at() is None
    assert said(announcer, 1.0, profile("max"), profile("mid"), profile("low")) == ()
    assert announcer.next_at() == 30.0
    assert said(announcer, 29.9) == ()
    assert said(announcer, 30.0) == ("The profile is low now.",)
    assert said(announcer, 60.0) == ()


def test_what_is_again_as_it_was_told_is_no_news() -> None:
    announcer = Announcer()
    said(announcer, 0.0, profile("mid"))
    said(announcer, 1.0, profile("max"), profile("mid"))
    assert said(announcer, 30.0) == ()
    # And nothing was said, so there is no pause.
    assert said(announcer, 30.0, profile("max")) == ("The profile is max now.",)


def test_what_went_and_came_back_within_the_pause_was_never_away() -> None:
    announcer = Announcer()
    said(announcer, 0.0, down("a"))
    said(announcer, 1.0, down("b"), up("b"), down("c"), up("d"), down("d"), up("d"))
    assert said(announcer, 30.0) == ("c is down.",)


def test_the_same_again_is_no_news() -> None:
    announcer = Announcer()
    assert said(announcer, 0.0, down("a", "it has ended by itself"))
    assert said(announcer, 100.0, down("a", "it did not load")) == ()
    assert said(announcer, 100.0, up("a")) == ("a is up again.",)


def test_only_what_is_wanted_is_said_and_the_rest_is_forgotten() -> None:
    announcer = Announcer()
    assert said(announcer, 0.0, down("a"), wanted=None) == ()
    cards = ALL.model_copy(update={"kinds": (NewsKind.CARD,)})
    gone = Announce(News.CARD_GONE, "rtx5080")
    assert said(announcer, 0.0, down("a"), gone, wanted=cards) == ("rtx5080 is gone.",)
    assert said(announcer, 0.0) == ()


def test_texts_are_the_operators_and_one_that_is_empty_says_nothing() -> None:
    texts = {**STANDARD_TEXTS, News.INSTANCE_DOWN: "{instance} steht: {reason}", News.INSTANCE_UP: ""}
    german = ALL.model_copy(update={"texts": texts})
    announcer = Announcer()
    assert said(announcer, 0.0, down("a", "{instance} 'reasons'"), wanted=german) == ("a steht: {instance} 'reasons'",)
    assert said(announcer, 40.0, up("a"), wanted=german) == ()
    # Silence needs no pause.
    assert said(announcer, 41.0, down("b", "gone"), wanted=german) == ("b steht: gone",)


def report(**states: str) -> CardsReport:
    cards = tuple(ReportedCard(card=name, state=state, reason=f"it is {state}") for name, state in states.items())
    return CardsReport(profile="max", reason="", since_epoch_s=0.0, cards=cards)


def test_cards_are_told_of_when_they_close_open_or_close_otherwise() -> None:
    before = report(a="eligible", b="locked", c="taken", d="quarantined", e="absent", f="waiting")
    after = report(a="locked", b="waiting", c="eligible", d="absent", e="quarantined", f="taken")
    assert card_news(before, after) == (
        Announce(News.CARD_LOCKED, "a", "it is locked"),
        Announce(News.CARD_RETURNED, "b", "it is waiting"),
        Announce(News.CARD_GONE, "d", "it is absent"),
        Announce(News.CARD_QUARANTINED, "e", "it is quarantined"),
    )


def test_how_cards_are_at_first_is_no_news() -> None:
    assert card_news(None, report(a="locked")) == ()
    assert card_news(report(a="eligible"), report(a="eligible", b="locked")) == ()


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["max", "mid", "low"])), max_size=40))
def test_whatever_flaps_the_last_word_is_how_it_is_and_words_are_a_pause_apart(steps: list[tuple[float, str]]) -> None:
    announcer, now, spoken = Announcer(), 0.0, list[tuple[float, str]]()
    for pause_s, name in steps:
        now += pause_s
        spoken += [(now, text) for text in said(announcer, now, profile(name))]
    now += 30.0
    spoken += [(now, text) for text in said(announcer, now)]
    times = [at for at, _ in spoken]
    assert all(later - earlier >= 29.999 for earlier, later in pairwise(times))
    assert all(one != other for (_, one), (_, other) in pairwise(spoken))
    if steps:
        assert spoken[-1][1] == f"The profile is {steps[-1][1]} now."
