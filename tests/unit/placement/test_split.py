"""Layers by share: none lost, none more than one away from its due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.placement.split import by_share

shares = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=6).filter(lambda found: sum(found) > 1)


@given(st.integers(1, 200), shares)
def test_every_layer_is_given_once_and_nearly_by_share(layers: int, given_shares: list[float]) -> None:
    counts = by_share(layers, given_shares)

    assert sum(counts) == layers
    for count, share in zip(counts, given_shares, strict=True):
        assert abs(count - layers * share / sum(given_shares)) < 1 + 1e-6


@pytest.mark.parametrize(
    ("layers", "given_shares", "counts"),
    [
        (29, [80, 15, 5], (23, 4, 2)),
        (29, [100, 0, 0], (29, 0, 0)),
        (3, [1, 1], (2, 1)),
        (65, [1, 1, 1], (22, 22, 21)),
    ],
)
def test_remainders_go_to_the_largest_then_to_the_earlier(
    layers: int, given_shares: list[float], counts: tuple[int, ...]
) -> None:
    assert by_share(layers, given_shares) == counts
