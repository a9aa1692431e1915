"""Which profile a set of cards allows if nothing else speaks against one: for plans that suppose cards.

Which one is active is decided in `topology`, where lockouts, faults, others' use and the past count as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.ir.catalog import Profile


def select_profile(profiles: Sequence[Profile], present: frozenset[str]) -> str:
    """Name the first profile whose cards are all present; there is at least one profile.

    Where none is complete it is the last, the most modest one: its instances then wait for their card.
    """
    complete = (profile.name for profile in profiles if all(card.name in present for card in profile.cards))
    return next(complete, profiles[-1].name)
