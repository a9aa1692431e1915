"""The processes of our units, from whoever runs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.adapters.systemd import conversation
from kloros_infra.errors import KlorosError

_HAVE_PROCESSES = ("active", "activating", "deactivating", "reloading", "refreshing", "maintenance", "failed")
_INSTANCES = "llama@*"


class SystemdProcesses:
    """Implements `agent.ports.Processes`: systemd names all processes of a unit, whoever their parents are."""

    def families(self, units: Collection[str]) -> Mapping[str, Collection[int]] | None:
        """Give the processes of those units that have some; None where systemd does not answer."""
        try:
            with conversation("") as bus:
                rows = bus.call("ListUnitsByPatterns", "asas", list(_HAVE_PROCESSES), [_INSTANCES])[0]
                running = [row[0] for row in rows if row[0] in units]
                found = {unit: bus.call("GetUnitProcesses", "s", unit)[0] for unit in running}
        except KlorosError:
            return None
        return {unit: frozenset(pid for _, pid, _ in processes) for unit, processes in found.items() if processes}


class SupervisedProcesses:
    """Implements `agent.ports.Processes` for the embedded supervisor, which knows each unit's first process."""

    def __init__(self, root: Path, family: Callable[[int], Collection[int]]) -> None:
        self._supervisor = SupervisorClient(root)
        self._family = family

    def families(self, units: Collection[str]) -> Mapping[str, Collection[int]] | None:
        """Give the processes of those units that run; None where the supervisor does not answer."""
        try:
            states = self._supervisor.states(units)
        except KlorosError:
            return None
        return {unit: self._family(state.main_pid) for unit, state in states.items() if state.main_pid}


class NoProcesses:
    """Implements `agent.ports.Processes` where nobody runs units."""

    def families(self, units: Collection[str]) -> Mapping[str, Collection[int]] | None:  # noqa: ARG002 - the port's
        return {}
