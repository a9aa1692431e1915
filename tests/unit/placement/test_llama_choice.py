"""What llama-server does by itself: known cases, and what must hold of any."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from benchmarks.placement_models import MODELS
from kloros_infra.ir.catalog import HostMemory
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.devices import cpu_device, devices_of
from kloros_infra.placement.llama_choice import FIT_MARGIN_BYTES, divided, fitted
from kloros_infra.placement.plan_loads import loads_of
from kloros_infra.placement.speed import Assignment
from kloros_infra.placement.task import Task
from kloros_infra.placement.workload import Workload
from tests.factories import a_7b_header, kloros_cards

MIB = 2**20
FREE = [15500 * MIB, 11650 * MIB, 10950 * MIB]


def a_task(model: str | None = None, *, cards: int = 3, memory_bytes: int | None = None, context: int = 16384) -> Task:
    header = MODELS[model]() if model else a_7b_header()
    devices = devices_of(kloros_cards()[:cards], cpu_device(HostMemory(usable_bytes=memory_bytes)))
    return Task(header, Workload(context, parallel=1, micro_batch=512), devices)


def counts(plan: Assignment | None) -> tuple[Counter[str], Counter[str]]:
    assert plan is not None
    return Counter(plan.layer_devices), Counter(plan.expert_devices)


def test_a_model_that_fits_anywhere_is_divided_by_free_memory() -> None:
    task = a_task()
    plan = divided(task, FREE)
    assert counts(plan)[0] == {"CUDA0": 12, "CUDA1": 9, "CUDA2": 8}
    assert fitted(task, FREE) == plan
    assert counts(divided(task, [0, 0, 0]))[0] == {"CUDA0": 10, "CUDA1": 10, "CUDA2": 9}


def test_a_dense_model_fills_cards_from_the_last_one_and_leaves_the_rest_to_the_cpu() -> None:
    task = a_task("Qwen2.5-Coder-32B Q5_K_M", cards=2)
    plan = fitted(task, FREE[:2])
    assert plan is not None
    assert plan.layer_devices[0] == CPU
    assert plan.layer_devices == tuple(sorted(plan.layer_devices, key=[CPU, "CUDA0", "CUDA1"].index))
    assert plan.expert_devices == plan.layer_devices[:-1]
    for load, free in zip(loads_of(task, task.work, plan), FREE[:2], strict=False):
        assert load.total_bytes + FIT_MARGIN_BYTES <= free
    # One more would not have fitted on the last card.
    first = plan.layer_devices.index("CUDA1") - 1
    fuller = (*plan.layer_devices[:first], "CUDA1", *plan.layer_devices[first + 1 :])
    loads = loads_of(task, task.work, replace(plan, layer_devices=fuller, expert_devices=fuller[:-1]))
    assert loads[1].total_bytes + FIT_MARGIN_BYTES > FREE[1]


def test_a_model_with_experts_has_its_layers_on_the_last_card_and_whole_ones_from_the_first() -> None:
    layers, experts = counts(fitted(a_task("Qwen3-235B-A22B IQ4_XS"), FREE))
    assert layers == {"CUDA2": 77, "CUDA0": 10, "CUDA1": 8}
    assert experts == {CPU: 73, "CUDA0": 10, "CUDA1": 8, "CUDA2": 3}


def test_what_is_too_much_for_the_cpu_as_well_is_not_placed() -> None:
    assert fitted(a_task("Qwen2.5-Coder-32B Q5_K_M", cards=1, memory_bytes=MIB), FREE[:1]) is None


def test_cards_that_hold_all_but_the_head_s_margin_keep_whole_layers_only() -> None:
    task = a_task("Qwen3-30B-A3B Q4_K_M", cards=2)
    layers, experts = counts(fitted(task, [8000 * MIB, 8000 * MIB]))
    assert layers[CPU] == 0
    assert experts[CPU] > 0
    assert experts["CUDA0"] > 0


def test_a_division_that_leaves_no_margin_may_still_have_all_layers_whole() -> None:
    task = a_task("Qwen3-30B-A3B Q4_K_M", cards=2)
    free = [20500 * MIB, 2600 * MIB]
    layers, experts = counts(fitted(task, free))
    assert divided(task, free) != fitted(task, free)
    assert layers == {"CUDA0": 48, "CUDA1": 1}
    assert experts == {"CUDA0": 48}
