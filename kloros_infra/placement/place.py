"""Pass 3: Instance → Placement, from the declared cards and the locked header.

Layers are the unit: a card gets a run of them, with their keys and values. The output head counts as one layer after
the last, so the last card that is used holds it; the token embedding is always in host memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.ir.card_share import CONTEXT_BYTES
from kloros_infra.ir.catalog import HostMemory, Instance, PlacementMode
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement import problems
from kloros_infra.placement.cache_types import cache_type_problems
from kloros_infra.placement.devices import NO_CORRECTIONS, Corrections, Device, cpu_device, devices_of
from kloros_infra.placement.engines import cpu, fit, manual, overrider, solver
from kloros_infra.placement.engines.interface import FIT, Engine, Outcome, Request
from kloros_infra.placement.header_check import header_problems

HOST = "the host"


@dataclass(frozen=True, slots=True)
class Machine:
    """What placements depend on beside the cards: the host's memory, and what was measured on it.

    `overrider_records` are what the external gguf-tensor-overrider answered, by the name of an instance.
    """

    memory: HostMemory = field(default_factory=HostMemory)
    corrections: Corrections = field(default_factory=lambda: NO_CORRECTIONS)
    overrider_records: Mapping[str, str] = field(default_factory=dict)

    def devices(self, instance: Instance) -> tuple[Device, ...]:
        """Describe what an instance may use; the CPU is the last."""
        # Nobody knows whether layers find room in memory of which models.yaml does not tell.
        takes_layers = self.memory.usable_bytes is not None or not instance.profile.cards
        processor = cpu_device(self.memory, self.corrections.get(CPU), takes_layers=takes_layers)
        return devices_of(instance.profile.cards, processor, self.corrections)


def engine_of(instance: Instance) -> Engine:
    """Say who places an instance."""
    if not instance.profile.cards:
        return cpu.ENGINE
    match instance.serving.placement:
        case PlacementMode.AUTO | PlacementMode.SOLVER:
            return solver.ENGINE
        case PlacementMode.MANUAL:
            return manual.ENGINE
        case PlacementMode.FIT:
            return fit.ENGINE
        case PlacementMode.OVERRIDER:
            return overrider.ENGINE
        case _ as never:
            assert_never(never)


def place(instance: Instance, machine: Machine | None = None) -> Outcome:
    """Give an instance's layers to devices that it has to itself; None when that cannot be done, with the reason."""
    machine = machine or Machine()
    return place_on(Request(instance, machine.devices(instance), machine.overrider_records))


def place_on(request: Request) -> Outcome:
    """Give an instance's layers to the devices of a request, with what is left of their memory."""
    found = (*header_problems(request.instance), *cache_type_problems(request.instance))
    if has_errors(found):
        return None, found
    placement, more = engine_of(request.instance).place(request)
    return placement, (*found, *more)


def check_together(placements: Mapping[InstanceId, Placement]) -> Problems:
    """Check that instances of one profile fit on its devices at the same time; give it those that are preloaded.

    Each has a CUDA context on its cards; usable memory leaves one out. Placements by `fit` are not counted: they make
    do with what they find.
    """
    counted = {instance: placement for instance, placement in placements.items() if placement.engine != FIT}
    on_device: dict[str, list[tuple[InstanceId, int]]] = {}
    capacities: dict[str, int] = {}
    for instance, placement in sorted(counted.items()):
        for load in placement.loads:
            if load.capacity_bytes is not None:
                context_bytes = CONTEXT_BYTES if load.card else 0
                needs = on_device.setdefault(load.card or HOST, [])
                needs.append((instance, load.total_bytes + (context_bytes if needs else 0)))
                capacities[load.card or HOST] = load.capacity_bytes
    return tuple(
        problems.do_not_fit_together(needs[0][0].profile, device, capacities[device], needs)
        for device, needs in sorted(on_device.items())
        # One that does not fit by itself has been reported as such.
        if len(needs) > 1 and sum(need for _, need in needs) > capacities[device]
    )
