"""What every engine is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.placement import Placement, Prediction
from kloros_infra.placement.costs import costs_between
from kloros_infra.placement.devices import Device
from kloros_infra.placement.patterns import expert_exceptions
from kloros_infra.placement.plan_loads import loads_of
from kloros_infra.placement.speed import Assignment, speed_of
from kloros_infra.placement.task import Task, task_of
from kloros_infra.placement.workload import Workload

CPU_ENGINE, SOLVER, SHARE, LAYERS, FIT, OVERRIDER = "cpu", "solver", "share", "layers", "fit", "overrider"
"""What decided a placement: no card, the solver, layers by share or as written, llama-server's --fit at start, or the
external gguf-tensor-overrider."""


@dataclass(frozen=True, slots=True)
class Request:
    """An instance, and the devices that it may use, with the memory that is left there; the CPU is the last.

    `overrider_records` are texts by the name of an instance: what the external tool answered.
    """

    instance: Instance
    devices: tuple[Device, ...]
    overrider_records: Mapping[str, str] = field(default_factory=dict)

    @property
    def cards(self) -> tuple[Device, ...]:
        return self.devices[:-1]

    @property
    def task(self) -> Task:
        return task_of(self.instance, self.devices)

    @property
    def slots(self) -> int:
        """Count the layers and the output head."""
        return self.instance.model.weights.header.layer_count + 1


Outcome = tuple[Placement | None, Problems]


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine; the same request has the same outcome until `version` changes."""

    name: str
    version: int
    place: Callable[[Request], Outcome]


def decided(
    engine: str, task: Task, assignment: Assignment, *, work: Workload | None = None, gap: float = 0.0
) -> Placement:
    """Write an assignment down, with what it takes and how fast it is foreseen to be."""
    work = work or task.work
    costs = costs_between(task.header, work, task.devices)
    speed = speed_of(costs, assignment, {one.name: one for one in task.devices}, task.preference)
    return Placement(
        engine=engine,
        layer_devices=assignment.layer_devices,
        exceptions=expert_exceptions(assignment),
        loads=loads_of(task, work, assignment),
        context_tokens=work.context_tokens,
        parallel=work.parallel,
        micro_batch=work.micro_batch,
        cache_type_k=work.cache_type_k,
        cache_type_v=work.cache_type_v,
        predicted=Prediction(
            prefill_tokens_per_s=speed.prefill_tokens_per_s,
            decode_tokens_per_s=speed.decode_tokens_per_s,
            depth_tokens=costs.depth_tokens,
            splits=speed.splits,
            bottleneck=speed.bottleneck,
            gap=gap,
        ),
    )
