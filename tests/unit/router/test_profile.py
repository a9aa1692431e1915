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
    assert select_profile(PROFILES, frozenset(present)) == profile


def test_without_a_complete_profile_the_last_is_chosen() -> None:
    assert select_profile(PROFILES[:3], frozenset()) == "fallback"


@given(st.sets(st.sampled_from(["rtx5080", "rtx3060", "gtx1080ti"])), st.sampled_from([RTX5080, RTX3060, GTX1080TI]))
def test_another_card_never_makes_it_worse(present: set[str], card: Card) -> None:
    names = [profile.name for profile in PROFILES]
    before = select_profile(PROFILES, frozenset(present))
    after = select_profile(PROFILES, frozenset(present | {card.name}))
    assert names.index(after) <= names.index(before)
