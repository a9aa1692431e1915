"""What fits on the cards: whether an instance may start, and which others have to stop for that.

By declared memory and by what others are seen to use, never by count. Whoever holds memory is counted from the
order to start until it is known to have stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from itertools import combinations
from typing import NamedTuple

from kloros_infra.ir.routing import RoutedShare

MOST_COMBINED = 8
"""Up to so many that may stop every combination is tried; beyond that the longest unused stop first."""


class Holder(NamedTuple):
    """An instance that holds memory, or wants to; `used_at` is when it was last of use.

    Of those that have a word of `turns` in common one runs at a time: models of a group, and instances of one model,
    whose units stop each other (systemd.unit(5), Conflicts=). Those that are named in `beside` can run all the same.
    """

    instance: str
    shares: tuple[RoutedShare, ...]
    turns: frozenset[str] = frozenset()
    used_at: float = 0.0
    beside: tuple[str, ...] = ()


class Room(Enum):
    """What there is to say where nothing has to stop."""

    FITS = "fits"
    BUSY = "busy"
    """Not before those that may not be stopped now have stopped."""
    NEVER = "never"
    """Not even alone, beside what others use of the cards."""


def plan_room(
    wanted: Holder,
    holders: Collection[Holder],
    *,
    capacities: Mapping[str, int],
    foreign: Mapping[str, int],
    evictable: Collection[str],
) -> Room | tuple[str, ...]:
    """Say whether an instance fits, or name those that must stop: fewest bytes, then the longest unused.

    Those that it takes turns with must always stop. A card without a declared capacity holds everything.
    """
    cards = {share.card for share in wanted.shares}
    free = {card: mib - foreign.get(card, 0) for card, mib in capacities.items() if card in cards}
    if not _fits((wanted,), free):
        return Room.NEVER
    others = [holder for holder in holders if holder.instance != wanted.instance]
    rivals = [one for one in others if one.instance not in wanted.beside and not wanted.turns.isdisjoint(one.turns)]
    if not rivals and _fits((wanted, *others), free):
        return Room.FITS
    kept = [holder for holder in others if holder not in rivals]
    staying = [holder for holder in kept if holder.instance not in evictable]
    if any(rival.instance not in evictable for rival in rivals) or not _fits((wanted, *staying), free):
        return Room.BUSY
    stoppable = [holder for holder in kept if holder.instance in evictable and _uses(holder, cards)]
    chosen = _fewest((wanted, *staying), stoppable, free)
    return tuple(holder.instance for holder in (*rivals, *chosen))


def used_mib(holders: Iterable[Holder]) -> dict[str, int]:
    """Add up what instances hold of each card."""
    used: dict[str, int] = {}
    for holder in holders:
        for share in holder.shares:
            used[share.card] = used.get(share.card, 0) + share.mib
    return used


def _fits(holders: Iterable[Holder], free: Mapping[str, int]) -> bool:
    return all(mib <= free[card] for card, mib in used_mib(holders).items() if card in free)


def _uses(holder: Holder, cards: Collection[str]) -> bool:
    return any(share.card in cards for share in holder.shares)


def _fewest(staying: tuple[Holder, ...], stoppable: list[Holder], free: Mapping[str, int]) -> tuple[Holder, ...]:
    """Choose whom to stop where stopping all of them is enough."""
    oldest_first = sorted(stoppable, key=lambda holder: (holder.used_at, holder.instance))
    if len(oldest_first) <= MOST_COMBINED:
        sets = (chosen for count in range(len(oldest_first) + 1) for chosen in combinations(oldest_first, count))
        return min((chosen for chosen in sets if _fits((*staying, *_without(oldest_first, chosen)), free)), key=_cost)
    count = 0
    while not _fits((*staying, *oldest_first[count:]), free):
        count += 1
    return tuple(oldest_first[:count])


def _without(holders: Iterable[Holder], chosen: Collection[Holder]) -> list[Holder]:
    return [holder for holder in holders if holder not in chosen]


def _cost(chosen: tuple[Holder, ...]) -> tuple[int, float, tuple[str, ...]]:
    """Order combinations: fewest bytes to load again, then those whose last use is longest ago."""
    mib = sum(share.mib for holder in chosen for share in holder.shares)
    return mib, sum(holder.used_at for holder in chosen), tuple(holder.instance for holder in chosen)
