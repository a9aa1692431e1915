"""What always holds of the solver's plans, and what it chooses beside devices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from kloros_infra.ir.catalog import KvType, Preference
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.integer_program import Program
from kloros_infra.placement.plan_loads import loads_of
from kloros_infra.placement.solver import Plan, solve
from kloros_infra.placement.task import Task
from kloros_infra.placement.workload import Workload
from tests.exhaustive_placement import (
    FEED_FORWARD,
    MIB,
    VOCABULARY,
    WIDE,
    a_device,
    a_processor,
    an_expert_header,
    random_task,
)
from tests.factories import a_gguf_header, a_projector_header

SEEDS = st.integers(1000, 10**9)


def a_task(*cards_mib: int, layers: int = 8, has_experts: bool = False, **changes: object) -> Task:
    """Build a task on like cards of so much memory."""
    header = (
        an_expert_header(layers)
        if has_experts
        else a_gguf_header(layers=layers, embedding=WIDE, feed_forward=FEED_FORWARD, heads=8, vocabulary=VOCABULARY)
    )
    cards = tuple(a_device(f"CUDA{index}", mib * MIB) for index, mib in enumerate(cards_mib))
    task = Task(header, Workload(2048, parallel=1, micro_batch=512), (*cards, a_processor()))
    return replace(task, **changes)  # type: ignore[arg-type]


def solved(task: Task) -> Plan:
    plan = solve(task)
    assert plan is not None
    return plan


@given(seed=SEEDS, has_experts=st.booleans())
@tries(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_plan_is_over_full_and_each_is_found_again(seed: int, has_experts: bool) -> None:
    task = random_task(seed, has_experts=has_experts)
    plan = solve(task)

    assert plan == solve(task)
    if plan is not None:
        assert plan.loads == loads_of(task, plan.work, plan.assignment)
        assert all(load.capacity_bytes is None or load.total_bytes <= load.capacity_bytes for load in plan.loads)
        on_cpu = CPU in plan.assignment.layer_devices or CPU in plan.assignment.expert_devices
        assert task.devices[-1].takes_layers or not on_cpu


@given(seed=SEEDS, has_experts=st.booleans(), more_mib=st.integers(1, 100))
@tries(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_more_memory_is_never_worse(seed: int, has_experts: bool, more_mib: int) -> None:
    task = random_task(seed, has_experts=has_experts)
    first, *others = task.devices
    larger = replace(task, devices=(replace(first, usable_bytes=(first.usable_bytes or 0) + more_mib * MIB), *others))

    before, after = solve(task), solve(larger)

    if before is not None:
        assert after is not None
        # The search for plans with experts elsewhere ends a thousandth before the best.
        assert after.seconds <= before.seconds * (1.01 if has_experts else 1 + 1e-9)


def test_what_fits_on_one_card_is_not_divided() -> None:
    plan = solved(a_task(200, 200, preference=Preference(prefill=0.01)))

    assert plan.assignment.cards == ("CUDA0",)
    assert plan.work.micro_batch == 512


def test_a_prompt_is_read_by_two_cards_where_prompts_count() -> None:
    plan = solved(a_task(200, 200, preference=Preference(prefill=100)).with_context(8192))

    assert len(plan.assignment.cards) == 2
    assert plan.speed.is_pipelined


def test_layers_stay_with_the_cpu_where_cards_are_too_small() -> None:
    plan = solved(a_task(90))

    assert 0 < plan.assignment.layer_devices.count(CPU) < 8
    assert plan.assignment.layer_devices[-1] == "CUDA0"


def test_weights_in_host_memory_make_a_larger_micro_batch_worth_it() -> None:
    task = a_task(110, layers=16, has_experts=True, preference=Preference(prefill=40)).with_context(4096)
    few_prompts = replace(task, preference=Preference(prefill=0.01))

    assert solved(replace(task, micro_batches=(32, 256))).work.micro_batch == 256
    assert solved(replace(few_prompts, micro_batches=(32, 256))).work.micro_batch == 32


def test_a_card_that_holds_nothing_is_left_out() -> None:
    plan = solved(a_task(0, 200))

    assert plan.assignment.cards == ("CUDA1",)
    assert solved(a_task(0)).assignment.cards == ()


def test_nothing_fits_where_the_cpu_may_not_help() -> None:
    alone = a_task(50)

    assert solve(replace(alone, devices=(alone.devices[0], a_processor(takes_layers=False)))) is None
    assert solve(replace(alone, devices=(alone.devices[0], a_processor(10 * MIB)))) is None


def test_the_embedding_is_in_host_memory_whatever_is_on_cards() -> None:
    task = a_task(400)

    assert solved(task).fits
    assert solve(replace(task, devices=(*task.cards, a_processor(MIB)))) is None


def test_the_memory_of_the_cpu_limits_what_stays_there() -> None:
    task = a_task(50, layers=6, has_experts=True)

    assert solved(task).loads[-1].total_bytes > 50 * MIB
    assert solve(replace(task, devices=(*task.cards, a_processor(50 * MIB)))) is None
    assert solved(replace(task, devices=(*task.cards, a_processor(70 * MIB)))).fits


def test_experts_are_elsewhere_before_whole_layers_are() -> None:
    plan = solved(a_task(100, layers=8, has_experts=True))

    assert CPU not in plan.assignment.layer_devices
    assert plan.assignment.has_exceptions
    assert 0 <= plan.gap <= 0.001


def test_experts_go_on_a_card_that_is_slow_with_layers() -> None:
    task = a_task(70, 100, layers=8, has_experts=True)
    fast, like, _ = task.devices
    slow = replace(like, dense_layer_s=5e-3, expert_layer_s=5.05e-3)

    plan = solved(replace(task, devices=(fast, slow, a_processor(takes_layers=False))))

    assert "CUDA1" in plan.assignment.expert_devices
    assert "CUDA1" not in plan.assignment.layer_devices[:-1]


def test_another_cache_type_is_taken_only_where_it_is_worth_it() -> None:
    f16, q8_0 = (KvType.F16,) * 2, (KvType.Q8_0,) * 2
    task = replace(a_task(160), cache_types=(f16, q8_0)).with_context(8192)
    roomy = replace(task, devices=(a_device("CUDA0", 900 * MIB), task.devices[-1]))

    assert solved(task).work.cache_type_k is KvType.Q8_0
    # Where the model is on one card anyway, reading fewer bytes is no reason to lose precision.
    assert solved(roomy).work.cache_type_k is KvType.F16


def test_a_context_is_lowered_as_little_as_keeps_the_cpu_out() -> None:
    task = a_task(140).with_context(32768)
    lowered = solved(replace(task, min_context_tokens=1024))

    assert solved(task).assignment.uses_cpu
    assert not lowered.assignment.uses_cpu
    assert 1024 <= lowered.work.context_tokens < 32768
    assert lowered.work.context_tokens % 1024 == 0
    more = solved(task.with_context(lowered.work.context_tokens + 1024))
    assert more.assignment.uses_cpu


def test_a_context_is_not_lowered_where_that_does_not_help() -> None:
    too_small = replace(a_task(60).with_context(4096), min_context_tokens=2048)
    enough = replace(a_task(400).with_context(4096), min_context_tokens=2048)
    no_less = replace(a_task(60).with_context(4096), min_context_tokens=4096)

    assert [solved(task).work.context_tokens for task in (too_small, enough, no_less)] == [4096] * 3


def test_a_projector_takes_room_on_the_head_s_card() -> None:
    task = a_task(150)
    plan, with_eyes = solved(task), solved(replace(task, projector=a_projector_header()))

    assert with_eyes.loads[0].extra_bytes > 0
    assert with_eyes.assignment.layer_devices.count(CPU) > plan.assignment.layer_devices.count(CPU)


def test_without_cards_there_is_one_plan() -> None:
    for has_experts in (False, True):
        plan = solved(a_task(has_experts=has_experts))
        assert plan.assignment.cards == ()
        assert plan.work.micro_batch == 512


def test_a_program_that_nothing_satisfies_has_no_solution() -> None:
    program = Program()
    one = program.variable(cost=1.0, upper=3)
    program.row([(one, 1.0), (one, 1.0)], lower=3.0)

    solution, relaxed = program.solved(), program.solved(is_whole=False)
    assert solution is not None
    assert relaxed is not None
    assert (solution.values, solution.objective) == ((2.0,), 2.0)
    assert relaxed.objective == pytest.approx(1.5)

    assert program.solved(cutoff=2.0) is not None
    assert program.solved(cutoff=1.9) is None

    program.row([(one, 1.0)], lower=4.0)
    assert program.solved() is None


def test_the_offset_of_a_program_counts_for_what_it_has_to_cost_less_than() -> None:
    program = Program(offset=10.0)
    one = program.variable(cost=-1.0, lower=1.0, upper=3.0)
    program.row([(one, 2.0)], upper=5.0)

    best = program.solved(cutoff=8.5)
    assert best is not None
    assert (best.values, best.objective) == ((2.0,), 8.0)
    assert program.solved(cutoff=7.5) is None


def test_a_program_that_is_cut_short_says_what_is_known() -> None:
    # Whether some of these numbers add up to a given one takes many nodes to find out.
    program = Program()
    numbers = [12228, 36679, 36682, 48908, 61139, 73365]
    program.row(
        [(program.variable(cost=1.0, upper=1e4), float(number)) for number in numbers], lower=89716837, upper=89716837
    )

    cut = program.solved(nodes=0)

    assert cut is not None
    assert cut.values == ()
    assert cut.bound < cut.objective == float("inf")
