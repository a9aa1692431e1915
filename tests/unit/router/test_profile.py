"""The first profile whose cards are all there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import Card
from kloros_infra.router.profile import select_profile
from tests.factories import a_profile, kloros_cards

RTX5080, RTX3060, GTX1080TI = kloros_cards()
PROFILES = (
    a_profile("max", RTX5080, RTX3060, GTX1080TI),
    a_profile("mid", RTX3060, GTX1080TI),
    a_profile("fallback", RTX3060),
    a_profile("cpu_only"),
)


@pytest.mark.parametrize(
    ("present", "profile"),
    [
        ({"rtx5080", "rtx3060", "gtx1080ti"}, "max"),
        ({"rtx3060", "gtx1080ti"}, "mid"),
        ({"rtx5080", "rtx3060"}, "fallback"),
        ({"gtx1080ti"}, "cpu_only"),
        (set(), "cpu_only"),
    ],
)
def test_the_first_complete_profile_is_chosen(present: set[str], profile: str) -> None:
    assert select_profile(PROFILES, frozenset(present))[0] == profile


def test_the_reason_names_what_the_better_profiles_lack() -> None:
    _, reason = select_profile(PROFILES, frozenset({"rtx3060"}))
    assert reason == ("'fallback' needs rtx3060, all present; 'max' lacks rtx5080, gtx1080ti; 'mid' lacks gtx1080ti.")
    assert select_profile(PROFILES[3:], frozenset())[1] == "'cpu_only' needs no card."


def test_without_a_complete_profile_the_last_is_chosen() -> None:
    profile, reason = select_profile(PROFILES[:3], frozenset())
    assert profile == "fallback"
    assert "No profile has all its cards" in reason


@given(st.sets(st.sampled_from(["rtx5080", "rtx3060", "gtx1080ti"])), st.sampled_from([RTX5080, RTX3060, GTX1080TI]))
def test_another_card_never_makes_it_worse(present: set[str], card: Card) -> None:
    names = [profile.name for profile in PROFILES]
    before, _ = select_profile(PROFILES, frozenset(present))
    after, _ = select_profile(PROFILES, frozenset(present | {card.name}))
    assert names.index(after) <= names.index(before)
