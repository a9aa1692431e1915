"""Small models and cards at random, and the best plan for them by trying every one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise, permutations, product
from typing import Any

from kloros_infra.ir.catalog import Preference
from kloros_infra.ir.gguf import GgufHeader, Tensor, group_tensors
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import Device
from kloros_infra.placement.plan_loads import loads_of
from kloros_infra.placement.speed import Assignment, in_runs, speed_of
from kloros_infra.placement.task import Task
from kloros_infra.placement.workload import Workload
from tests.factories import a_gguf_header, a_tensor

MIB = 2**20
WIDE, FEED_FORWARD, VOCABULARY = 1024, 4096, 8192


def a_device(name: str, usable_bytes: int | None = None, **figures: Any) -> Device:
    """Build a device that is like an RTX 3060 unless said otherwise."""
    device = Device(
        name=name,
        card=None if name == CPU else name.lower(),
        usable_bytes=usable_bytes,
        read_bytes_per_s=300e9,
        flops_per_s=28e12,
        dense_layer_s=20e-6,
        expert_layer_s=70e-6,
        link_bytes_per_s=25e9,
    )
    return replace(device, **figures)


def a_processor(usable_bytes: int | None = None, *, takes_layers: bool = True) -> Device:
    """Build a processor with DDR4."""
    return a_device(
        CPU,
        usable_bytes,
        read_bytes_per_s=32e9,
        flops_per_s=0.7e12,
        dense_layer_s=0.0,
        expert_layer_s=0.0,
        link_bytes_per_s=51e9,
        expert_share=1.0,
        can_pipeline=False,
        takes_layers=takes_layers,
    )


def an_expert_header(layers: int, *, experts: int = 16, used: int = 2, wide: int = 512, dense: int = 0) -> GgufHeader:
    """Build a model with experts in all layers but the first `dense`."""
    base = a_gguf_header(layers=layers, embedding=WIDE, feed_forward=FEED_FORWARD, heads=8, vocabulary=VOCABULARY)
    tensors = [_row(group.name, group.shape, group.type) for group in base.tensors if group.layers is None]
    for layer in range(layers):
        own = [group for group in base.tensors if group.layers and (layer < dense or "ffn_" not in group.name)]
        tensors += [_row(group.name.replace("*", str(layer)), group.shape, group.type) for group in own]
        if layer >= dense:
            at = f"blk.{layer}."
            tensors.append(a_tensor(f"{at}ffn_gate_inp.weight", WIDE, experts, type="F32"))
            tensors.append(a_tensor(f"{at}ffn_up_exps.weight", WIDE, wide, experts))
            tensors.append(a_tensor(f"{at}ffn_down_exps.weight", wide, WIDE, experts))
    return replace(base, tensors=group_tensors(tensors), expert_count=experts, expert_used_count=used)


def _row(name: str, shape: tuple[int, ...], type_: str) -> Tensor:
    return a_tensor(name, *shape, type=type_)


def random_task(seed: int, *, has_experts: bool) -> Task:
    """Build a task of a few layers on one to three cards, some of them too small."""
    chance = random.Random(seed)  # noqa: S311 - the same instances in every run
    layers = chance.randint(2, 3 if has_experts else 6)
    header = (
        an_expert_header(layers, wide=chance.choice([256, 512]), dense=chance.randint(0, 1))
        if has_experts
        else a_gguf_header(layers=layers, embedding=WIDE, feed_forward=FEED_FORWARD, heads=8, vocabulary=VOCABULARY)
    )
    most = header.weights_bytes // MIB + 10
    cards = tuple(
        a_device(
            f"CUDA{index}",
            chance.randint(1, most) * MIB,
            read_bytes_per_s=chance.choice([100e9, 300e9, 750e9]),
            flops_per_s=chance.choice([10e12, 28e12, 105e12]),
            hop_s=chance.choice([40e-6, 40e-6, 1e-3]),
            can_pipeline=chance.random() < 0.8,
        )
        for index in range(chance.randint(1, 2 if has_experts else 3))
    )
    return Task(
        header=header,
        work=Workload(context_tokens=512, parallel=1, micro_batch=64),
        devices=(*cards, a_processor(takes_layers=chance.random() < 0.8)),
        preference=Preference(prefill=chance.choice([0.5, 4.0, 40.0])),
        micro_batches=(64,),
    )


def best_seconds(task: Task) -> float | None:
    """Try every plan, fastest first, until one fits."""
    costs = model_costs(task.header, task.work)
    devices = {device.name: device for device in task.devices}
    rated = []
    for assignment in _assignments(task):
        speed = speed_of(costs, assignment, devices, task.preference)
        rated.append((task.preference.seconds(speed.prefill_s, speed.decode_s), assignment))
    for seconds, assignment in sorted(rated, key=lambda one: one[0]):
        if all(load.fits for load in loads_of(task, task.work, assignment)):
            return seconds
    return None


def _assignments(task: Task) -> Iterator[Assignment]:
    slots = task.header.layer_count + 1
    takes_layers = task.devices[-1].takes_layers
    if takes_layers:
        yield in_runs((), (CPU,) * slots)
    names = [card.name for card in task.cards]
    for count in range(1, len(names) + 1):
        for order in permutations(names, count):
            for cuts in combinations(range(slots), count):
                if cuts[0] and not takes_layers:
                    continue
                ends = (*cuts, slots)
                counts = (end - start for start, end in pairwise(ends))
                runs = tuple(name for name, size in zip(order, counts, strict=True) for _ in range(size))
                layer_devices = (CPU,) * cuts[0] + runs
                yield in_runs(order, layer_devices)
                if task.header.expert_count:
                    yield from _with_exceptions(task, order, layer_devices)


def _with_exceptions(task: Task, order: tuple[str, ...], layer_devices: tuple[str, ...]) -> Iterator[Assignment]:
    """Put each layer's experts on each device; those of the CPU's layers stay with them."""
    costs = model_costs(task.header, task.work)
    homes = [device.name for device in task.devices if device.takes_layers]
    choices = [
        homes if costs.layers[layer].has_experts and device != CPU else [device]
        for layer, device in enumerate(layer_devices[:-1])
    ]
    for experts in product(*choices):
        if experts != layer_devices[:-1]:
            cards = (*order, *(name for name in homes if name not in (*order, CPU) and name in experts))
            yield Assignment(cards, layer_devices, experts)
