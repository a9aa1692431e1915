"""What a plan takes on each device, by the memory model: the last word on whether it fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from kloros_infra.ir.placement import DeviceLoad
from kloros_infra.placement.companions import draft_by_device, projector_bytes
from kloros_infra.placement.memory import TensorPlaces, Workload, model_loads
from kloros_infra.placement.memory_guests import guest_bytes, lent_again_bytes
from kloros_infra.placement.patterns import expert_exceptions
from kloros_infra.placement.speed import Assignment
from kloros_infra.placement.task import Task


def loads_of(task: Task, work: Workload, assignment: Assignment) -> tuple[DeviceLoad, ...]:
    """Add up the cards in llama-server's order, and the CPU last."""
    return _loads(task, work, TensorPlaces(assignment.layer_devices, expert_exceptions(assignment), assignment.cards))


def loads_at(task: Task, work: Workload, places: TensorPlaces) -> tuple[DeviceLoad, ...]:
    """Add up the same where not just experts may be away from their layer."""
    guests = guest_bytes(task.header, work, places)
    again = {card: lent_again_bytes(task.header, places) for card in places.all_cards[:1]}
    return tuple(
        replace(
            load,
            compute_bytes=max(load.compute_bytes, guests.get(load.device, 0)) + again.get(load.device, 0),
        )
        for load in _loads(task, work, places)
    )


def _loads(task: Task, work: Workload, places: TensorPlaces) -> tuple[DeviceLoad, ...]:
    extra = beside_bytes(task, work, places.layer_devices[-1])
    found = model_loads(task.header, work, places.layer_devices, places.exceptions, devices=places.cards)
    devices = [task.device(load.device) for load in found]
    return tuple(
        replace(load, card=device.card, capacity_bytes=device.usable_bytes, extra_bytes=extra.get(load.device, 0))
        for load, device in zip(found, devices, strict=True)
    )


def beside_bytes(task: Task, work: Workload, head_device: str) -> Mapping[str, int]:
    """Add up what is loaded beside the model: it goes to the head's device."""
    found: Counter[str] = Counter()
    if task.draft is not None:
        found.update(draft_by_device(task.draft, work, head_device))
    if task.projector is not None:
        found[head_device] += projector_bytes(task.projector)
    return found
