"""Programs for models with experts: of one order of cards, and of all that begin with a card."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import Preference
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import Device
from kloros_infra.placement.integer_program import GAP
from kloros_infra.placement.solve_counts import unevenness
from kloros_infra.placement.solve_experts import Answer, by_last, candidates, cutoff_of, is_worth_it, solve_candidate
from kloros_infra.placement.solve_space import Limits, Space
from kloros_infra.placement.solver import solve
from kloros_infra.placement.task import Task
from kloros_infra.placement.workload import Workload
from tests.exhaustive_placement import MIB, a_device, a_processor, an_expert_header, random_task

BY_FIRST = Limits(cards_in_all_orders=0)


def a_space(*cards_mib: int, layers: int = 6, dense: int = 0, processor: Device | None = None) -> Space:
    """Build a space of unlike cards: each next one is slower."""
    header = an_expert_header(layers, dense=dense)
    cards = tuple(
        a_device(f"CUDA{index}", mib * MIB, read_bytes_per_s=600e9 / (index + 1), flops_per_s=90e12 / (index + 1))
        for index, mib in enumerate(cards_mib)
    )
    work = Workload(2048, parallel=1, micro_batch=512)
    return Space(model_costs(header, work), (*cards, processor or a_processor()), Preference())


def answers(space: Space) -> list[Answer]:
    return [solve_candidate(candidate) for candidate in candidates(space)]


def best_of(found: list[Answer]) -> float:
    return min(answer.found.seconds for answer in found if answer.found)


def test_like_cards_have_one_order() -> None:
    space = a_space(60, 60)
    first, second, processor = space.devices
    like = replace(space, devices=(first, replace(first, name=second.name), processor))

    assert [[card.name for card in one.order] for one in candidates(like)] == [["CUDA0", "CUDA1"]]
    assert len(candidates(space)) == 2


def test_of_many_cards_orders_are_taken_together_by_their_first_card_and_then_by_their_last() -> None:
    space = a_space(60, 61, 62, 63, 64, layers=2)
    found = candidates(space)
    divided = by_last(found[1], 0.5)

    assert [[card.name for card in one.order] for one in found] == [[f"CUDA{number}"] for number in range(5)]
    assert all(one.is_divisible for one in found)
    assert [one.last for one in divided] == [f"CUDA{number}" for number in range(5)]
    assert {(one.order, one.bound_s, one.is_divisible) for one in divided} == {(found[1].order, 0.5, False)}


def test_of_like_cards_one_is_the_last_and_the_first_one_may_be() -> None:
    space = a_space(60, 61)
    first, second, processor = space.devices
    like = tuple(replace(second, name=f"CUDA{number}") for number in (1, 2, 3))
    space = replace(space, devices=(first, *like, processor))

    assert [[one.last for one in by_last(candidate, 0.0)] for candidate in candidates(space)] == [
        ["CUDA0", "CUDA1"],
        ["CUDA0", "CUDA1", "CUDA2"],
    ]


def test_counts_tell_the_best_order_and_what_no_order_gets_below() -> None:
    space = a_space(70, 75, 50)
    by_order, by_first = answers(space), answers(replace(space, limits=BY_FIRST))

    best_s = best_of(by_order)
    assert min(answer.least_s for answer in by_first) <= best_s * (1 + 1e-9)
    assert best_of(by_first) == pytest.approx(best_s, rel=0.01)


@pytest.mark.parametrize("seed", range(30))
def test_counts_never_promise_more_than_an_order_keeps(seed: int) -> None:
    task = random_task(seed, has_experts=True)
    space = Space(model_costs(task.header, task.work), task.devices, task.preference)
    by_first = {one.order[0].name: solve_candidate(one) for one in candidates(replace(space, limits=BY_FIRST))}

    for candidate in candidates(space):
        answer, counted = solve_candidate(candidate), by_first.get(candidate.order[0].name)
        if answer.found is not None:
            assert counted is not None
            assert counted.least_s <= answer.found.seconds * (1 + 1e-9)
            parts = [solve_candidate(part) for part in by_last(replace(candidate, is_order=False), 0.0)]
            assert min(part.least_s for part in parts) <= answer.found.seconds * (1 + 1e-9)


def test_kinds_that_take_turns_are_in_every_run_of_layers() -> None:
    (layer, *_) = a_space(60).costs.layers
    other = replace(layer, read_bytes=3 * layer.read_bytes)

    assert unevenness((layer, layer, layer, other) * 3, other) == pytest.approx(0.75, abs=1e-5)
    assert unevenness((layer,) * 6 + (other,) * 6, other) == pytest.approx(3, abs=1e-5)
    assert unevenness((layer,) * 6, layer) == pytest.approx(0, abs=1e-5)


def test_a_candidate_is_asked_for_what_is_better_only() -> None:
    for limits in (Limits(), BY_FIRST):
        space = replace(a_space(70, 75), limits=limits)
        candidate = candidates(space)[0]
        best_s = best_of([solve_candidate(candidate)])

        assert solve_candidate(candidate, best_s * 0.9) == Answer(None, best_s * 0.9)
        assert is_worth_it(candidate, best_s) == (candidate.bound_s < cutoff_of(best_s) == best_s * (1 - GAP))


def test_a_program_that_is_cut_short_has_no_plan() -> None:
    for limits in (Limits(nodes=0), replace(BY_FIRST, nodes=0)):
        space = replace(a_space(70, 75, 50, layers=24, dense=1), limits=limits)
        found = answers(space)

        assert any(answer.found is None and answer.least_s < 1 for answer in found)


def test_what_does_not_fit_has_no_plan() -> None:
    assert candidates(a_space(20, processor=a_processor(10 * MIB))) == ()
    assert candidates(replace(a_space(20, processor=a_processor(10 * MIB)), limits=BY_FIRST)) == ()


def test_a_card_without_a_limit_and_a_processor_without_layers() -> None:
    space = a_space(70, 75, processor=a_processor(takes_layers=False))
    first, second, processor = space.devices
    space = replace(space, devices=(replace(first, usable_bytes=None), second, processor), limits=BY_FIRST)

    found = solve_candidate(candidates(space)[0]).found

    assert found is not None
    assert not found.assignment.uses_cpu


@pytest.mark.untraced
@pytest.mark.parametrize(("cards_mib", "layers"), [((60, 50, 45, 40), 8), ((60, 50, 45, 40, 35), 8)])
def test_a_plan_for_many_cards_says_how_far_from_the_best_it_may_be(cards_mib: tuple[int, ...], layers: int) -> None:
    space = a_space(*cards_mib, layers=layers)
    task = Task(space.costs.header, space.costs.work, space.devices, micro_batches=(512,))
    by_order = answers(replace(space, limits=Limits(cards_in_all_orders=5))) if len(cards_mib) < 5 else []

    plan = solve(task)

    assert plan is not None
    assert plan == solve(task)
    assert plan.fits
    assert 0 <= plan.gap < 0.05
    for answer in by_order:
        assert answer.found is None or answer.found.seconds >= plan.seconds * (1 - plan.gap) * (1 - 1e-9)
