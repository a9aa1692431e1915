"""A whole imaginary machine, and a way to make any of its calls fail."""

from __future__ import annotations

from dataclasses import dataclass, field

from kloros_infra.executor.machine import Machine
from kloros_infra.executor.observe import Observable, observe
from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.generation import History
from kloros_infra.ir.observed import Installed, Observed
from kloros_infra.planner.desired import Desired
from tests.fakes.clock import FakeClock
from tests.fakes.files import FakeFiles
from tests.fakes.generations import FakeGenerations
from tests.fakes.outside import (
    FakeDisplay,
    FakeGate,
    FakeHealth,
    FakeJournal,
    FakePorts,
    FakeRpcServers,
    FakeStagedCheck,
    FakeWeightsStore,
)
from tests.fakes.service_manager import Definition, FakeServiceManager


class KilledError(BaseException):
    """The process ends here: nothing catches it, nothing is undone."""


@dataclass
class Watch:
    """Counts calls that change the machine and raises `error` at call number `at`, once."""

    at: int | None = None
    error: BaseException = field(default_factory=lambda: OSError(28, "No space left on device"))
    calls: list[str] = field(default_factory=list)

    def __call__(self, call: str) -> None:
        self.calls.append(call)
        if self.at == len(self.calls) - 1:
            raise self.error


@dataclass(frozen=True)
class Snapshot:
    """What must be the same after an undone apply."""

    files: dict[str, Artifact]
    record: Installed
    running: dict[str, Definition]
    history: History


class FakeMachine:
    """Files, units, weights and the rest, sharing one watch."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.generations = FakeGenerations(self._watched)
        self.files = FakeFiles(self._watched, generations=self.generations)
        self.manager = FakeServiceManager(self.files, watch=self._watched)
        self.weights = FakeWeightsStore(self._watched)
        self.health = FakeHealth(asks_before_ready=1)
        self.servers = FakeRpcServers()
        self.staged_check = FakeStagedCheck()
        self.gate = FakeGate()
        self.ports = FakePorts()
        self.journal = FakeJournal(self._watched)
        self.display = FakeDisplay()
        self.clock = FakeClock()

    def _watched(self, call: str) -> None:
        self.watch(call)

    def ports_of_apply(self) -> Machine:
        """Give apply its machine."""
        return Machine(
            files=self.files,
            generations=self.generations,
            staged_check=self.staged_check,
            gate=self.gate,
            manager=self.manager,
            weights=self.weights,
            health=self.health,
            servers=self.servers,
            ports=self.ports,
            journal=self.journal,
            display=self.display,
            clock=self.clock,
        )

    def observe(self, desired: Desired) -> Observed:
        where = Observable(self.files, self.generations, self.weights, self.manager)
        return observe(where, paths=desired.tree, layout=desired.layout)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.files.visible, self.files.record, dict(self.manager.running), self.generations.history())
