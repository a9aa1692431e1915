"""Shares of cards come back from the text that a unit file holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.card_share import CardShare, read_shares, shares_text
from kloros_infra.ir.names import NAME_PATTERN

SHARES = st.builds(
    CardShare, st.from_regex(NAME_PATTERN, fullmatch=True).map(str.strip), st.integers(0, 10**6), st.integers(0, 10**6)
)


@given(st.lists(SHARES))
def test_shares_come_back(shares: list[CardShare]) -> None:
    assert read_shares(shares_text(shares)) == tuple(shares)


@pytest.mark.parametrize("word", ["", "a", "a:1", "a:1/", ":1/2", "a:x/2", "a:-1/2"])
def test_words_of_another_shape_are_passed_over(word: str) -> None:
    assert read_shares(f"{word} b:1/2") == (CardShare("b", 1, 2),)
