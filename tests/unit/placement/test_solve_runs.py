"""The search for runs of layers on any cards: nothing is left out, and what is cut short is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import Preference
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import Device
from kloros_infra.placement.solve_dense import solve_runs
from kloros_infra.placement.solve_space import Limits, Space
from kloros_infra.placement.solve_tables import ONE_BY_ONE, Least, Tables
from kloros_infra.placement.solver import solve
from kloros_infra.placement.task import Task
from kloros_infra.placement.workload import Workload
from tests.exhaustive_placement import (
    FEED_FORWARD,
    MIB,
    VOCABULARY,
    WIDE,
    a_device,
    a_processor,
    best_seconds,
    random_task,
)
from tests.factories import a_gguf_header

HEADER = a_gguf_header(layers=8, embedding=WIDE, feed_forward=FEED_FORWARD, heads=8, vocabulary=VOCABULARY)
WORK = Workload(2048, parallel=1, micro_batch=512)


def a_space(*cards: Device, processor: Device | None = None, limits: Limits | None = None) -> Space:
    devices = (*cards, processor or a_processor())
    return Space(model_costs(HEADER, WORK), devices, Preference(), limits=limits or Limits())


def cards_of(*sizes_mib: int) -> tuple[Device, ...]:
    return tuple(a_device(f"CUDA{index}", mib * MIB) for index, mib in enumerate(sizes_mib))


def unlike_cards() -> tuple[Device, ...]:
    first, *others = cards_of(100, 90, 85)
    return replace(first, read_bytes_per_s=500e9), *others


def test_a_search_that_is_cut_short_says_how_far_from_the_best_it_may_be() -> None:
    whole = solve_runs(a_space(*unlike_cards()))
    cut = solve_runs(a_space(*unlike_cards(), limits=Limits(steps=0)))

    assert whole is not None
    assert cut is not None
    assert whole.gap == 0
    assert 0 < cut.gap < 1
    assert whole.seconds >= cut.seconds * (1 - cut.gap) * (1 - 1e-8)


def test_a_plan_of_a_search_that_was_cut_short_says_so_too() -> None:
    task = Task(HEADER, WORK, (*unlike_cards(), a_processor()))
    whole, cut = solve(task), solve(task, Limits(steps=0))

    assert whole is not None
    assert cut is not None
    assert whole.gap == 0
    assert 0 < cut.gap < 1
    assert whole.seconds >= cut.seconds * (1 - cut.gap) * (1 - 1e-8)


def test_nothing_is_found_that_does_not_cost_less_than_what_is_known() -> None:
    space = a_space(*unlike_cards())
    best = solve_runs(space)

    assert best is not None
    assert solve_runs(space, best.seconds) is None
    assert solve_runs(space, best.seconds * 1.001) == best


def test_cards_that_are_alike_are_taken_in_their_order() -> None:
    found = solve_runs(a_space(*cards_of(100, 100, 100)))
    tables = Tables(a_space(*cards_of(100, 100, 90)), ONE_BY_ONE)

    assert found is not None
    assert found.assignment.cards == ("CUDA0", "CUDA1")
    assert tables.choices(frozenset({0, 1, 2})) == (0, 2)
    assert tables.choices(frozenset({1, 2})) == (1, 2)


@pytest.mark.parametrize("seed", range(12))
def test_of_four_cards_the_best_plan_is_found(seed: int) -> None:
    task = random_task(seed, has_experts=False)
    cards = (*task.cards, *unlike_cards())[:4]
    four = tuple(replace(card, name=f"CUDA{number}") for number, card in enumerate(cards))
    task = replace(task, devices=(*four, task.devices[-1]))

    best_s, plan = best_seconds(task), solve(task)

    assert (plan is None) == (best_s is None)
    if plan is not None:
        assert plan.seconds == pytest.approx(best_s, rel=1e-9)
        assert plan.gap == 0


def test_what_is_left_costs_at_least_what_the_cheapest_cards_take_for_it() -> None:
    fast, slow = a_device("CUDA0", 60 * MIB), a_device("CUDA1", 400 * MIB, read_bytes_per_s=100e9)
    least = Least(Tables(a_space(fast, slow), ONE_BY_ONE))
    alone = Least(Tables(a_space(fast), ONE_BY_ONE))
    unlimited = Least(Tables(a_space(replace(fast, usable_bytes=None)), ONE_BY_ONE))

    assert unlimited.seconds(0) < least.seconds(0) < float("inf")
    assert least.seconds(4) < least.seconds(0)
    assert alone.seconds(0) == float("inf")


def test_a_card_without_a_limit_holds_everything() -> None:
    unlimited = replace(a_device("CUDA0"), usable_bytes=None)

    found = solve_runs(a_space(unlimited, a_device("CUDA1", 60 * MIB)))

    assert found is not None
    assert CPU not in found.assignment.layer_devices
