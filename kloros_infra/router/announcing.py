"""What is said aloud, and when: (news, now) → sentences.

What happens first is said at once. What follows within the pause of its kind waits, and then only how things are by
then is said: what was the other way round meanwhile, and is again as it was told last, is no news.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kloros_infra.ir.announcements import PLACEHOLDER, REASON, News, NewsKind
from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.routing import RoutedAnnouncements
from kloros_infra.router.effects import Announce

_OF_CARDS: Mapping[str, News] = {
    "absent": News.CARD_GONE,
    "locked": News.CARD_LOCKED,
    "quarantined": News.CARD_QUARANTINED,
}


def card_news(before: CardsReport | None, after: CardsReport) -> tuple[Announce, ...]:
    """Tell what has changed between two reports; how the cards are at first, and new cards, are no news."""
    known = {} if before is None else {card.card: _news_of(card) for card in before.cards}
    found = ((card, _news_of(card)) for card in after.cards)
    return tuple(
        Announce(news, card.card, card.reason) for card, news in found if known.get(card.card, news) is not news
    )


def _news_of(card: ReportedCard) -> News:
    return _OF_CARDS.get(card.state, News.CARD_RETURNED)


class _Key(NamedTuple):
    """What news are of: how one thing is, of which the latest counts."""

    kind: NewsKind
    subject: str


@dataclass(slots=True)
class _OfKind:
    """One kind of news: what waits until its pause is over."""

    waiting: dict[_Key, Announce] = field(default_factory=dict)
    was: dict[_Key, str] = field(default_factory=dict)
    """How what waits was taken to be before."""
    quiet_until: float = 0.0


class Announcer:
    """Remembers what was said of what, and what waits to be said."""

    def __init__(self) -> None:
        self._kinds = {kind: _OfKind() for kind in NewsKind}
        self._told: dict[_Key, str] = {}

    def take(self, announce: Announce) -> None:
        """Take in that something has changed; `due` says what is to be said of it."""
        key, mine = _key(announce), self._kinds[announce.news.kind]
        mine.was.setdefault(key, self._told.get(key, _before(announce)))
        # What has changed last is said last.
        mine.waiting.pop(key, None)
        mine.waiting[key] = announce

    def due(self, wanted: RoutedAnnouncements | None, now: float) -> tuple[str, ...]:
        """Give what is to be said now, one text for each kind; what nobody wants to hear is forgotten."""
        texts = [self._due(kind, self._kinds[kind], wanted, now) for kind in NewsKind]
        return tuple(text for text in texts if text)

    def next_at(self) -> float | None:
        """Say when the pause of something that waits is over."""
        return min((mine.quiet_until for mine in self._kinds.values() if mine.waiting), default=None)

    def _due(self, kind: NewsKind, mine: _OfKind, wanted: RoutedAnnouncements | None, now: float) -> str:
        if wanted is None or kind not in wanted.kinds:
            self._kinds[kind] = _OfKind()
            return ""
        if now < mine.quiet_until:
            return ""
        news = {key: one for key, one in mine.waiting.items() if _state(one) != mine.was[key]}
        mine.waiting, mine.was = {}, {}
        self._told.update((key, _state(one)) for key, one in news.items())
        said = " ".join(_sentences(news.values(), wanted))
        if said:
            mine.quiet_until = now + wanted.least_interval_s
        return said


def _sentences(news: Iterable[Announce], wanted: RoutedAnnouncements) -> Iterator[str]:
    for one in news:
        text = _text(wanted.texts.get(one.news, ""), {one.news.subject: one.subject, REASON: one.reason})
        if text:
            yield text


def _text(template: str, values: Mapping[str, str]) -> str:
    """Put values in place of the words in braces; what a value holds is not looked at again."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], ""), template).strip()


def _key(announce: Announce) -> _Key:
    """One profile is active at a time; all else has a state of its own."""
    kind = announce.news.kind
    return _Key(kind, "" if kind is NewsKind.PROFILE else announce.subject)


def _state(announce: Announce) -> str:
    return announce.subject if announce.news is News.PROFILE_CHANGED else str(announce.news)


def _before(announce: Announce) -> str:
    """Say how it was before the first news of it: as usual, where that tells of something amiss.

    An instance that comes up for the first time is as usual, too.
    """
    kind = announce.news.kind
    is_usual = kind is NewsKind.HEALTH or not announce.news.is_good
    return next((str(news) for news in News if is_usual and news.kind is kind and news.is_good), "")
