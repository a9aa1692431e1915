"""Compare engines of placement by the speed model: six models on three unequal cards, as a Markdown table.

    python -m benchmarks.placement [--overrider FOLDER]

`FOLDER` has recorded outputs of gguf-tensor-overrider, a folder for each model; those of the tests are taken unless
another is given. `default` and `fit` are what llama-server does by itself, in whole layers (common/fit.cpp also divides
single layers). The last line tells whether the solver's plan costs least in every row.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.placement_models import MODELS
from kloros_infra.ir.catalog import Card, HostMemory, Preference
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import Device, cpu_device, devices_of
from kloros_infra.placement.llama_choice import divided, fitted
from kloros_infra.placement.plan_loads import loads_of
from kloros_infra.placement.solver import solve
from kloros_infra.placement.speed import Assignment, speed_of
from kloros_infra.placement.stage_times import StageTimes
from kloros_infra.placement.task import Task, placement_key
from kloros_infra.placement.workload import Workload
from tests.factories import a_card, kloros_cards

MIB = 2**20
CONTEXT = 16384
# What CUDA has free on an idle RTX 5080, RTX 3060 and GTX 1080 Ti; the reserve is what contexts and kernels take.
FREE_MIB, RESERVE_MIB = (15500, 11650, 10950), 512
FREE_BYTES = tuple(free * MIB for free in FREE_MIB)
PAIRS = 1000
# Graph splits that llama-server b11434 reports for the overrider's own plans, and pageable copies of the cache.
OVERRIDER = {
    "Qwen2.5-Coder-7B Q4_0": ("qwen25-coder-7b-q4_0", 168),
    "R1-Distill-14B Q4_K_M": ("ds-r1-distill-14b-q4_k_m", 288),
    "Qwen2.5-Coder-32B Q5_K_M": ("qwen25-coder-32b-q5_k_m", 492),
    "Qwen3-30B-A3B Q4_K_M": ("qwen3-30b-a3b-q4_k_m", 496),
}
RECORDED = Path(__file__).parents[1] / "tests" / "cases" / "overrider"
PAGEABLE_BYTES_PER_S = 8e9


@dataclass(frozen=True, slots=True)
class Row:
    """What one engine makes of one model; without seconds it does not fit."""

    engine: str
    decode_s: float | None = None
    prefill_s: float | None = None
    splits: int = 0
    memory: str = ""
    plan: str = ""
    took_s: float | None = None

    def weighed_s(self, preference: Preference) -> float | None:
        if self.decode_s is None or self.prefill_s is None:
            return None
        return preference.seconds(self.prefill_s, self.decode_s)


def cards() -> tuple[Card, ...]:
    """Describe the three cards."""
    return tuple(
        a_card(
            card.name,
            vram_bytes=free * MIB,
            reserve_bytes=RESERVE_MIB * MIB,
            bandwidth_bytes_per_s=card.bandwidth_bytes_per_s,
            compute_capability=card.compute_capability,
        )
        for card, free in zip(kloros_cards(), FREE_MIB, strict=True)
    )


def devices() -> tuple[Device, ...]:
    """Describe the cards and a processor with DDR4-3200."""
    return devices_of(cards(), cpu_device(HostMemory()))


def by_assignment(engine: str, task: Task, assignment: Assignment | None) -> Row:
    """Rate a plan; it fits where it leaves what the reserve is for."""
    if assignment is None:
        return Row(engine)
    loads = loads_of(task, task.work, assignment)
    if not all(load.fits for load in loads):
        return Row(engine, memory=_memory(loads_bytes={load.device: load.total_bytes for load in loads}))
    by_name = {device.name: device for device in task.devices}
    speed = speed_of(model_costs(task.header, task.work), assignment, by_name, task.preference)
    memory = _memory({load.device: load.total_bytes for load in loads})
    return Row(engine, speed.decode_s, speed.prefill_s, speed.splits, memory, _plan(assignment, task.work))


def _memory(loads_bytes: Mapping[str, int]) -> str:
    return " ".join(
        f"{size / 2**30:.1f}" for _, size in sorted(loads_bytes.items(), key=lambda one: (one[0] == CPU, one))
    )


def _plan(assignment: Assignment, work: Workload) -> str:
    counts = Counter(assignment.layer_devices)
    away = Counter(
        expert
        for expert, layer in zip(assignment.expert_devices, assignment.layer_devices, strict=False)
        if expert != layer
    )
    split = " ".join(f"{name}:{counts[name]}" for name in (CPU, *assignment.cards) if counts[name])
    experts = " ".join(f"{count} exps→{name}" for name, count in sorted(away.items()))
    return ", ".join(filter(None, [split, experts, f"-ub {work.micro_batch}"]))


def overrider_row(name: str, task: Task, folder: Path) -> Row:
    """Rate what the overrider printed: weights by its list, keys and values with the CPU (it says -ngl 0)."""
    recorded = OVERRIDER.get(name)
    if recorded is None:
        return Row("overrider", plan="not recorded")
    text = (folder / recorded[0] / "output.txt").read_text()
    device_of = dict(re.findall(r'-ot "([^"=]+)=([^"]+)"', text))
    by_name = {device.name: device for device in task.devices}
    costs = model_costs(task.header, task.work)
    times = StageTimes(costs, task.devices[0])
    used = task.header.expert_used_count / task.header.expert_count if task.header.expert_count else 1.0
    decode = prefill = 0.0
    memory: Counter[str] = Counter()
    for tensor, size_bytes, values in _tensors(task.header):
        device = by_name[device_of.get(tensor, CPU)]
        memory[device.name] += size_bytes
        share = used if "_exps." in tensor else 1.0
        if not tensor.startswith("token_embd."):
            decode += size_bytes * share / device.read_bytes_per_s
            prefill += 0.0 if tensor.startswith("output") else 2 * values * share / device.flops_per_s
    kv = sum(layer.read_bytes - layer.core_bytes for layer in costs.layers)
    decode += kv / PAGEABLE_BYTES_PER_S + recorded[1] * task.devices[0].hop_s
    attention = sum(layer.attention_flops for layer in costs.layers) / task.devices[0].flops_per_s
    prefill += attention + (kv / PAGEABLE_BYTES_PER_S + recorded[1] * task.devices[0].hop_s) / times.batch_tokens
    return Row("overrider", decode, prefill, recorded[1], _memory(memory), "-ngl 0, a device for each tensor")


def _tensors(header: GgufHeader) -> Iterator[tuple[str, int, int]]:
    for group in header.tensors:
        values = 1
        for extent in group.shape if len(group.shape) > 1 else (0,):
            values *= extent
        for layer in group.layers or (None,):
            name = group.name if layer is None else group.name.replace("*", str(layer), 1)
            yield name, group.size_bytes, values


def solver_row(task: Task) -> Row:
    """Solve, and say how long that took of the processor."""
    started = time.process_time()
    plan = solve(task)
    took_s = time.process_time() - started
    if plan is None:
        return Row("solver", took_s=took_s)
    memory = _memory({load.device: load.total_bytes for load in plan.loads})
    text = f"{_plan(plan.assignment, plan.work)}, gap {plan.gap:.2%}"
    speed = plan.speed
    return Row("solver", speed.decode_s, speed.prefill_s, speed.splits, memory, text, took_s)


def rows_of(name: str, task: Task, folder: Path) -> list[Row]:
    return [
        overrider_row(name, task, folder),
        by_assignment("default", task, divided(task, FREE_BYTES)),
        by_assignment("fit", task, fitted(task, FREE_BYTES)),
        solver_row(task),
    ]


def written(name: str, row: Row, preference: Preference) -> str:
    """Write one line of the table."""
    weighed = row.weighed_s(preference)
    if weighed is None or row.decode_s is None or row.prefill_s is None:
        reason = row.plan or "does not fit"
        return f"| {name} | {row.engine} | – | – | – | – | {row.memory or '–'} | {reason} | – |"
    took = "–" if row.took_s is None else f"{row.took_s:.2f}"
    return (
        f"| {name} | {row.engine} | {1 / row.decode_s:.1f} | {1 / row.prefill_s:.0f} | {weighed * 1e3:.1f} "
        f"| {row.splits} | {row.memory} | {row.plan} | {took} |"
    )


def keyed_s(task: Task) -> float:
    """Say how long it takes to name a thousand tasks, which is all that a warm cache needs of placement."""
    started = time.perf_counter()
    for number in range(PAIRS):
        placement_key(task.with_context(CONTEXT + number), engine="solver", engine_version=1)
    return time.perf_counter() - started


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overrider", type=Path, default=RECORDED, help="folder with the overrider's recorded outputs")
    folder = parser.parse_args().overrider
    columns = (
        "Model",
        "Engine",
        "decode tok/s",
        "prefill tok/s",
        "ms for 4 + 1",
        "splits",
        "GiB, CPU last",
        "plan",
        "CPU s",
    )
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")  # noqa: T201 - its output
    is_best = True
    for name, header in MODELS.items():
        task = Task(header(), Workload(CONTEXT, parallel=1, micro_batch=512), devices())
        rows = rows_of(name, task, folder)
        print(*(written(name, row, task.preference) for row in rows), sep="\n", flush=True)  # noqa: T201 - its output
        seconds = [weighed for row in rows if (weighed := row.weighed_s(task.preference)) is not None]
        is_best = is_best and rows[-1].weighed_s(task.preference) == min(seconds)
    verdict = f"the solver's plan is {'' if is_best else 'NOT '}best in every row"
    print(f"\n{PAIRS} keys in {keyed_s(task):.2f} s; {verdict}.")  # noqa: T201 - its output
    return 0 if is_best else 1


if __name__ == "__main__":
    sys.exit(main())
