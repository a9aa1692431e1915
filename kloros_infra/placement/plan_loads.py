"""What a plan takes on each device, by the memory model: the last word on whether it fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from kloros_infra.ir.placement import DeviceLoad
from kloros_infra.placement.companions import draft_by_device, projector_bytes
from kloros_infra.placement.memory import Role, Workload, compute_bytes, model_loads
from kloros_infra.placement.patterns import expert_exceptions
from kloros_infra.placement.speed import Assignment
from kloros_infra.placement.task import Task

_COMPUTES_EXPERTS = Role(is_first=False, holds_layers=True, holds_head=False, is_pipelined=False)


def loads_of(task: Task, work: Workload, assignment: Assignment) -> tuple[DeviceLoad, ...]:
    """Add up the cards in llama-server's order, and the CPU last."""
    exceptions = expert_exceptions(assignment)
    extra = beside_bytes(task, work, assignment.layer_devices[-1])
    # A card without layers computes steps of others' layers where it has their experts.
    steps = compute_bytes(task.header, work, _COMPUTES_EXPERTS) if exceptions else 0
    found = model_loads(task.header, work, assignment.layer_devices, exceptions, devices=assignment.cards)
    complete = []
    for load in found:
        device = task.device(load.device)
        only_experts = not device.is_cpu and load.layers == 0 and load.device != assignment.layer_devices[-1]
        complete.append(
            replace(
                load,
                card=device.card,
                compute_bytes=max(load.compute_bytes, steps) if only_experts else load.compute_bytes,
                capacity_bytes=device.usable_bytes,
                extra_bytes=extra.get(load.device, 0),
            )
        )
    return tuple(complete)


def beside_bytes(task: Task, work: Workload, head_device: str) -> Mapping[str, int]:
    """Add up what is loaded beside the model: it goes to the head's device."""
    found: Counter[str] = Counter()
    if task.draft is not None:
        found.update(draft_by_device(task.draft, work, head_device))
    if task.projector is not None:
        found[head_device] += projector_bytes(task.projector)
    return found
