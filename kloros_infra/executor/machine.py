"""The machine that a plan is carried out on: one port for each outside thing."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.executor.ports import (
    Clock,
    Display,
    Gate,
    Generations,
    Health,
    Journal,
    ListeningPorts,
    RpcServers,
    ServiceManager,
    StagedCheck,
    TargetFiles,
    WeightsStore,
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that apply may touch."""

    files: TargetFiles
    generations: Generations
    staged_check: StagedCheck
    gate: Gate
    manager: ServiceManager
    weights: WeightsStore
    health: Health
    servers: RpcServers
    ports: ListeningPorts
    journal: Journal
    display: Display
    clock: Clock
