"""The solver finds what trying every plan finds, on models small enough for that."""

from __future__ import annotations

import pytest

from kloros_infra.placement.solver import solve
from tests.exhaustive_placement import best_seconds, random_task


@pytest.mark.parametrize("seed", range(140))
def test_of_a_dense_model_the_best_plan_is_found(seed: int) -> None:
    task = random_task(seed, has_experts=False)

    best_s, plan = best_seconds(task), solve(task)

    assert (plan is None) == (best_s is None)
    if plan is not None:
        assert plan.seconds == pytest.approx(best_s, rel=1e-9)
        assert plan.gap == 0
        assert plan.fits


@pytest.mark.parametrize("seed", range(60))
def test_of_a_model_with_experts_a_plan_within_a_hundredth_of_the_best_is_found(seed: int) -> None:
    task = random_task(seed, has_experts=True)

    best_s, plan = best_seconds(task), solve(task)

    assert (plan is None) == (best_s is None)
    if plan is not None and best_s is not None:
        assert plan.seconds <= best_s * 1.01
        assert plan.seconds >= best_s * (1 - 1e-9)
        assert plan.fits
