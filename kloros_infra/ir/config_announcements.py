"""The section of models.yaml about what KLoROS says aloud when something changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from kloros_infra.ir.announcements import LEAST_INTERVAL_S, STANDARD_TEXTS, URGENCY, News, NewsKind
from kloros_infra.ir.setting import Spec, about
from kloros_infra.ir.written import Duration, Line


def _text(news: News, when: str) -> Any:
    known = " and ".join(f"`{{{one}}}`" for one in news.placeholders)
    return about(f"What is said {when}, nothing where it is empty; {known} may stand in it.", STANDARD_TEXTS[news])


class AnnouncementTextsSpec(Spec):
    """What is said, in whatever language."""

    profile_changed: Annotated[Line, _text(News.PROFILE_CHANGED, "when another profile is active")] = STANDARD_TEXTS[
        News.PROFILE_CHANGED
    ]
    instance_down: Annotated[Line, _text(News.INSTANCE_DOWN, "when a model's instance fails")] = STANDARD_TEXTS[
        News.INSTANCE_DOWN
    ]
    instance_up: Annotated[Line, _text(News.INSTANCE_UP, "when it serves again")] = STANDARD_TEXTS[News.INSTANCE_UP]
    card_locked: Annotated[Line, _text(News.CARD_LOCKED, "when somebody locks a card out")] = STANDARD_TEXTS[
        News.CARD_LOCKED
    ]
    card_quarantined: Annotated[Line, _text(News.CARD_QUARANTINED, "when a card has failed")] = STANDARD_TEXTS[
        News.CARD_QUARANTINED
    ]
    card_gone: Annotated[Line, _text(News.CARD_GONE, "when a card is gone")] = STANDARD_TEXTS[News.CARD_GONE]
    card_returned: Annotated[Line, _text(News.CARD_RETURNED, "when it is back")] = STANDARD_TEXTS[News.CARD_RETURNED]
    remote_disabled: Annotated[Line, _text(News.REMOTE_DISABLED, "when a remote host is switched off")] = (
        STANDARD_TEXTS[News.REMOTE_DISABLED]
    )
    remote_connected: Annotated[Line, _text(News.REMOTE_CONNECTED, "when a remote host answers again")] = (
        STANDARD_TEXTS[News.REMOTE_CONNECTED]
    )
    remote_unavailable: Annotated[
        Line, _text(News.REMOTE_UNAVAILABLE, "when a remote host does not answer any more")
    ] = STANDARD_TEXTS[News.REMOTE_UNAVAILABLE]

    @property
    def by_news(self) -> Mapping[News, str]:
        """Give all texts by what they tell of."""
        return {news: getattr(self, news.value) for news in News}


class AnnouncementsSpec(Spec):
    """What is said aloud while `announce` is on, how often, and in which words."""

    kinds: Annotated[
        tuple[NewsKind, ...],
        about(
            "What is spoken of: changes of the profile, instances that fail and recover, cards, and remote hosts.",
            ["profile", "card"],
        ),
    ] = tuple(NewsKind)
    least_interval: Annotated[
        Duration,
        about(
            "Pause between two announcements of one kind; what changes meanwhile is said after it, as it is by then.",
            "30s",
            standard="30s",
        ),
    ] = LEAST_INTERVAL_S
    urgency: Annotated[
        Annotated[float, Field(ge=0, le=1)], about("How urgent KLoROS is told that they are, from 0 to 1.", 0.5)
    ] = URGENCY
    texts: Annotated[AnnouncementTextsSpec, about("What is said.", {"remote_disabled": "Remote disabled"})] = (
        AnnouncementTextsSpec()
    )
