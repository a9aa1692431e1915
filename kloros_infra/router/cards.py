"""How the cards stand: on which of them nothing may run, and on which nothing may stay that does not serve."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kloros_infra.ir.cards_report import CardsReport
from kloros_infra.ir.routing import Upstream
from kloros_infra.router.events import CardsStand, ClosedCard

NONE_CLOSED: Mapping[str, ClosedCard] = MappingProxyType({})


class Bar(NamedTuple):
    """Why an instance may not run now, and when that may end."""

    why: str
    opens_at: float | None = None


class Cards(NamedTuple):
    """What is known of the cards; those of which nothing is said may be used."""

    closed: Mapping[str, ClosedCard] = NONE_CLOSED
    ineligible: frozenset[str] = frozenset()

    def bar(self, upstream: Upstream) -> Bar | None:
        """Say what keeps an instance from running; it may run again when the last of its cards opens."""
        found = [self.closed[share.card] for share in upstream.shares if share.card in self.closed]
        if not found:
            return None
        words = " and ".join(f"its card {card.card} is {card.why}" for card in found)
        times = [card.opens_at for card in found if card.opens_at is not None]
        return Bar(words, max(times) if len(times) == len(found) else None)

    def may_stay(self, upstream: Upstream) -> bool:
        """Say whether an instance that does not serve may keep its memory until somebody needs it."""
        return not any(share.card in self.ineligible or share.card in self.closed for share in upstream.shares)


def stand(profile: str, report: CardsReport | None, *, epoch_offset_s: float = 0.0) -> CardsStand:
    """Say what a report means for instances; `epoch_offset_s` is what the core's clock is behind the wall's."""
    cards = () if report is None else report.cards
    closed = (ClosedCard(c.card, c.reason, _at(c.until_epoch_s, epoch_offset_s)) for c in cards if c.is_closed)
    return CardsStand(profile, tuple(closed), tuple(card.card for card in cards if not card.is_eligible))


def _at(epoch_s: float | None, epoch_offset_s: float) -> float | None:
    return None if epoch_s is None else epoch_s - epoch_offset_s


def cards_of(event: CardsStand) -> Cards:
    """Take in how the cards stand."""
    closed = {card.card: card for card in event.closed}
    return Cards(closed, frozenset(event.ineligible))


def have_opened(before: Cards, now: Cards) -> frozenset[str]:
    """Name the cards that may be used again."""
    return (before.ineligible | before.closed.keys()) - (now.ineligible | now.closed.keys())
