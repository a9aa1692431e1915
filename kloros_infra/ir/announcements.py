"""What KLoROS can be had to say aloud when something changes: kinds of news, and the words for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
LEAST_INTERVAL_S = 30.0
URGENCY = 0.5
"""What KLoROS itself gives where nothing is said (`VOICE.ORCHESTRATOR.SPEAK`)."""


class NewsKind(StrEnum):
    """What news are about; each kind can be left out, and has a rate of its own."""

    PROFILE = "profile"
    HEALTH = "health"
    CARD = "card"
    REMOTE = "remote"


class News(StrEnum):
    """What can have happened, by the names of the texts in models.yaml."""

    PROFILE_CHANGED = "profile_changed"
    INSTANCE_DOWN = "instance_down"
    INSTANCE_UP = "instance_up"
    CARD_LOCKED = "card_locked"
    CARD_QUARANTINED = "card_quarantined"
    CARD_GONE = "card_gone"
    CARD_RETURNED = "card_returned"
    REMOTE_DISABLED = "remote_disabled"
    REMOTE_CONNECTED = "remote_connected"
    REMOTE_UNAVAILABLE = "remote_unavailable"

    @property
    def kind(self) -> NewsKind:
        return _KINDS[self.partition("_")[0]]

    @property
    def subject(self) -> str:
        """Name the placeholder that stands for what it is about."""
        return _SUBJECTS[self.kind]

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Name what a text of it may hold in braces."""
        return (self.subject, REASON) if self in _WITH_REASON else (self.subject,)

    @property
    def is_good(self) -> bool:
        """Say whether it tells of what is usual: until then something was amiss."""
        return self in _GOOD


REASON = "reason"
_KINDS = {"profile": NewsKind.PROFILE, "instance": NewsKind.HEALTH, "card": NewsKind.CARD, "remote": NewsKind.REMOTE}
_SUBJECTS = {
    NewsKind.PROFILE: "profile",
    NewsKind.HEALTH: "instance",
    NewsKind.CARD: "card",
    NewsKind.REMOTE: "host",
}
_WITH_REASON = frozenset({News.PROFILE_CHANGED, News.INSTANCE_DOWN, News.CARD_LOCKED, News.CARD_QUARANTINED})
_GOOD = frozenset({News.INSTANCE_UP, News.CARD_RETURNED, News.REMOTE_CONNECTED})

STANDARD_TEXTS: Mapping[News, str] = {
    News.PROFILE_CHANGED: "The profile is {profile} now.",
    News.INSTANCE_DOWN: "{instance} is down.",
    News.INSTANCE_UP: "{instance} is up again.",
    News.CARD_LOCKED: "{card} is locked out.",
    News.CARD_QUARANTINED: "{card} has failed.",
    News.CARD_GONE: "{card} is gone.",
    News.CARD_RETURNED: "{card} is back.",
    # KLoROS's own words.
    News.REMOTE_DISABLED: "Remote disabled",
    News.REMOTE_CONNECTED: "Connected to {host}",
    News.REMOTE_UNAVAILABLE: "{host} unavailable",
}


@dataclass(frozen=True, slots=True)
class Announcements:
    """What is said aloud: of which kinds, how long each then pauses, how urgently, and in which words."""

    kinds: tuple[NewsKind, ...]
    least_interval_s: float
    urgency: float
    texts: tuple[tuple[News, str], ...]
