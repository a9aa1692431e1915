"""What a request costs where nobody says so."""

from __future__ import annotations

import pytest

from kloros_infra.ir.catalog import CostTier

GIB = 2**30


@pytest.mark.parametrize(
    ("size_bytes", "tier"),
    [
        (0, CostTier.LOW),
        (3 * GIB - 1, CostTier.LOW),
        (3 * GIB, CostTier.MEDIUM),
        (12 * GIB - 1, CostTier.MEDIUM),
        (12 * GIB, CostTier.HIGH),
    ],
)
def test_a_tier_is_chosen_by_the_size_of_the_weights(size_bytes: int, tier: CostTier) -> None:
    assert CostTier.of_weights(size_bytes) is tier
