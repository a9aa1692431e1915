"""What apply needs of the outside world, and no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.artifact import Artifact, ArtifactTree
from kloros_infra.ir.generation import History, Interrupted
from kloros_infra.ir.measured_memory import MeasuredLoad
from kloros_infra.ir.observed import Installed, Listener, UnitState
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import AwaitReady
from kloros_infra.ir.rpc_server import RpcState
from kloros_infra.ir.running import RunningProcess
from kloros_infra.ir.stop_cause import StopCause


class ServiceManager(Protocol):
    """systemd, or the embedded supervisor: both run the same unit files.

    Every call returns when the job is done; a failed job raises StepFailedError (KI6xx), a manager
    that cannot be reached UnreachableError.
    """

    name: str

    def reload(self) -> None: ...
    def start(self, unit: str) -> None: ...
    def restart(self, unit: str) -> None: ...
    def stop(self, unit: str) -> None: ...
    def states(self, units: Collection[str]) -> Mapping[str, UnitState]: ...
    def log_tail(self, unit: str, lines: int) -> tuple[str, ...]: ...
    def reset_failed(self, units: Collection[str]) -> None:
        """Forget failures and start limits; a unit that is not known has none."""
        ...


class RouterStops(Protocol):
    """Asks the router, which starts and stops instances by itself."""

    def __call__(self) -> Mapping[str, StopCause] | None:
        """Say why it does not let units run; None where it cannot be asked."""
        ...


class RunningProcesses(Protocol):
    """What processes of this machine were started with."""

    def running(
        self, pid: int, *, names: Collection[str] = (), prefixes: tuple[str, ...] = ()
    ) -> RunningProcess | None:
        """Give a process with those of its variables that are named or have a prefix; None when it is gone."""
        ...


class TargetFiles(Protocol):
    """The files below the target root; paths are relative to it, writes are atomic, remove is idempotent."""

    def read(self, path: str) -> Artifact | None: ...
    def write(self, path: str, artifact: Artifact) -> None: ...
    def remove(self, path: str) -> None: ...
    def installed(self) -> Installed: ...
    def record_installed(self, installed: Installed) -> None: ...
    def sweep(self) -> None:
        """Take away what killed runs left half-written beside files of ours."""
        ...

    def free_bytes(self, path: str) -> int:
        """Say how much room there is where `path` is or will be."""
        ...


class Generations(Protocol):
    """The generations that a root keeps; names are as seen from a generation's folder, every change is atomic."""

    def history(self) -> History: ...
    def read(self, number: int, name: str) -> Artifact | None: ...
    def stage(self, number: int, files: ArtifactTree) -> None:
        """Put a generation beside the others, in place of one of that number which never was current."""
        ...

    def flip(self, number: int | None) -> None: ...
    def mark_last_good(self, number: int | None) -> None: ...
    def remove(self, number: int) -> None: ...
    def sweep(self) -> None:
        """Take away what killed runs left half made or half removed."""
        ...


class RpcServers(Protocol):
    """Says whether an RPC server of another host can be used."""

    def state(self, endpoint: str, timeout_s: float) -> RpcState:
        """Ask once; `endpoint` is an address and a port."""
        ...


class StagedCheck(Protocol):
    """Looks at the units of a staged generation as the service manager would."""

    def problems(self, number: int, exposure_limit: float | None) -> Problems:
        """Say what is wrong with its units; their exposure is scored where it is limited."""
        ...


class Gate(Protocol):
    """Decides whether a unit that answers is as good as it must be: what it loaded where, and a first token."""

    def problems(self, step: AwaitReady) -> Problems:
        """Say what is wrong, or only notable, with a unit that is ready; errors come with its last log lines."""
        ...


class MemoryOracle(Protocol):
    """Says what llama-server itself needs for a placement, without loading it."""

    def measured(self, weights: Path, settings: Mapping[str, str]) -> tuple[MeasuredLoad, ...]:
        """Give each device's load with these LLAMA_ARG_* variables; raise UnreachableError where it cannot be said."""
        ...


class WeightsStore(Protocol):
    """The folder of verified weights."""

    def verified(self) -> Mapping[str, str]:
        """Map each store path that holds complete, once verified weights to its sha256."""
        ...

    def place(self, step: PlaceWeights, on_progress: Callable[[int, int], None]) -> None:
        """Bring weights in, atomically; raise ObstacleError when a source is missing or differs."""
        ...

    def is_reachable(self, step: PlaceWeights) -> bool: ...
    def remove(self, destination: str) -> None: ...


class Health(Protocol):
    """Asks whether a server is ready: http:// by its answer, tcp:// by a connection, listen:// by its socket."""

    def is_ready(self, url: str, timeout_s: float) -> bool: ...


class ListeningPorts(Protocol):
    """Says who holds a TCP port."""

    def listeners(self, port: int) -> tuple[Listener, ...]:
        """Give the processes that listen on a loopback port; none when it is free."""
        ...


class Journal(Protocol):
    """Append-only record of an apply: each step before and after, as JSON."""

    def begin(self, apply: Mapping[str, object]) -> None: ...
    def before(self, index: int, step: Mapping[str, object]) -> None: ...
    def after(self, index: int, step: Mapping[str, object]) -> None: ...
    def undone(self, index: int, step: Mapping[str, object]) -> None: ...
    def finish(self, outcome: str) -> None: ...
    def unfinished(self) -> Interrupted | None:
        """Give where the last apply was when it was killed, None when it finished."""
        ...


class Display(Protocol):
    """Tells a person what is happening."""

    def step(self, index: int, total: int, text: str) -> None: ...
    def progress(self, done: int, total: int) -> None: ...
    def waiting(self, text: str, elapsed_s: float) -> None: ...
    def warn(self, problems: Problems) -> None:
        """Show what did not stop a step."""
        ...


class Clock(Protocol):
    """Time, as apply needs it: monotonic seconds, and a wait between polls."""

    def now(self) -> float: ...
    def pause(self, seconds: float) -> None: ...
