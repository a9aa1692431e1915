"""Choose the active profile by the cards that are present (first cut: no hold times)."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.ir.catalog import Profile
from kloros_infra.ir.routing import RoutedProfile


def select_profile(profiles: Sequence[Profile | RoutedProfile], present: frozenset[str]) -> tuple[str, str]:
    """Give the first profile whose cards are all present, and the reason; there is at least one profile.

    Where none is complete it is the last, the most modest one: its instances then wait for their card.
    """
    absences: list[str] = []
    for profile in profiles:
        absent = [card.name for card in profile.cards if card.name not in present]
        if not absent:
            return profile.name, _complete(profile, absences)
        absences.append(f"'{profile.name}' lacks {', '.join(absent)}")
    last = profiles[-1].name
    return last, f"No profile has all its cards ({'; '.join(absences)}); '{last}' is the last."


def _complete(profile: Profile | RoutedProfile, absences: Sequence[str]) -> str:
    cards = ", ".join(card.name for card in profile.cards)
    why = f"'{profile.name}' needs {cards}, all present" if cards else f"'{profile.name}' needs no card"
    return f"{why}; {'; '.join(absences)}." if absences else f"{why}."
