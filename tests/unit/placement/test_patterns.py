"""Exceptions are few, anchored, and match exactly the tensors they are for."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.placement_models import MODELS
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.devices import cpu_device, devices_of
from kloros_infra.placement.engines.interface import decided
from kloros_infra.placement.patterns import expert_exceptions, numbers_pattern
from kloros_infra.placement.solver import solve
from kloros_infra.placement.speed import Assignment
from kloros_infra.placement.task import Task
from kloros_infra.placement.workload import Workload
from tests.factories import GIB, kloros_cards


@pytest.mark.parametrize(
    ("numbers", "patterns"),
    [
        ([7], ("7",)),
        ([8, 9, 10, 11, 12, 13], ("[89]", "1[0-3]")),
        ([0, 2, 3, 4, 30, 105], ("[02-4]", "30", "105")),
        (range(100, 110), ("10[0-9]",)),
    ],
)
def test_numbers_are_written_by_their_tens(numbers: list[int], patterns: tuple[str, ...]) -> None:
    assert numbers_pattern(numbers) == patterns


@given(st.sets(st.integers(0, 260), min_size=1))
def test_a_pattern_matches_its_numbers_and_no_others(numbers: set[int]) -> None:
    pattern = re.compile("|".join(numbers_pattern(numbers)))

    assert {number for number in range(300) if pattern.fullmatch(str(number))} == numbers


@given(st.lists(st.sampled_from(["CUDA0", "CUDA1", CPU]), min_size=1, max_size=130))
def test_each_tensor_of_experts_goes_where_it_shall_and_no_other_moves(expert_devices: list[str]) -> None:
    layers = len(expert_devices)
    assignment = Assignment(("CUDA0", "CUDA1"), ("CUDA0",) * (layers + 1), tuple(expert_devices))

    exceptions = expert_exceptions(assignment)

    def device(tensor: str) -> str:
        return next((one.device for one in exceptions if re.search(one.pattern, tensor)), "CUDA0")

    for layer, expected in enumerate(expert_devices):
        for name in ("ffn_gate_exps.weight", "ffn_up_exps.bias", "ffn_gate_up_exps.weight"):
            assert device(f"blk.{layer}.{name}") == expected
        for name in ("attn_q.weight", "ffn_gate_inp.weight", "ffn_up_shexp.weight"):
            assert device(f"blk.{layer}.{name}") == "CUDA0"
    assert device("output.weight") == "CUDA0"


def test_nothing_is_written_where_nothing_is_elsewhere() -> None:
    assert expert_exceptions(Assignment(("CUDA0",), ("CUDA0",) * 3, ("CUDA0",) * 2)) == ()


def test_the_largest_model_takes_little_to_write() -> None:
    cards = [replace(card, vram_bytes=card.vram_bytes - GIB) for card in kloros_cards()]
    header = MODELS["Qwen3-235B-A22B IQ4_XS"]()
    task = Task(
        header, Workload(16384, parallel=1, micro_batch=512), devices_of(cards, cpu_device()), micro_batches=(2048,)
    )
    plan = solve(task)
    assert plan is not None

    placement = decided("solver", task, plan.assignment, work=plan.work)
    settings = dict(arguments(placement))

    assert len(settings["LLAMA_ARG_OVERRIDE_TENSOR"]) < 1000
    assert sum(len(name) + len(value) + 2 for name, value in settings.items()) < 2000
    for exception in placement.exceptions:
        assert exception.pattern.startswith("^blk[.]")
        assert not {"\\", ",", "{", " "} & set(exception.pattern)
    # Weights in host memory are copied to the first card: from pinned memory.
    assert (settings["LLAMA_ARG_LOAD_MODE"], settings["LLAMA_ARG_MMAP"]) == ("none", "false")
    assert settings["LLAMA_ARG_UBATCH"] == "2048"
    split = [int(count) for count in settings["LLAMA_ARG_TENSOR_SPLIT"].split(",")]
    assert sum(split) == int(settings["LLAMA_ARG_N_GPU_LAYERS"]) == 95
    assert len(split) == len(settings["LLAMA_ARG_DEVICE"].split(","))
