"""What apply needs of the outside world, and no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.observed import Installed, Listener, UnitState
from kloros_infra.ir.plan import PlaceWeights


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


class TargetFiles(Protocol):
    """The files below the target root; paths are relative to it, writes are atomic, remove is idempotent."""

    def read(self, path: str) -> Artifact | None: ...
    def write(self, path: str, artifact: Artifact) -> None: ...
    def remove(self, path: str) -> None: ...
    def installed(self) -> Installed: ...
    def record_installed(self, installed: Installed) -> None: ...
    def free_bytes(self, path: str) -> int:
        """Say how much room there is where `path` is or will be."""
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
    """Asks a server whether it is ready: http:// by its answer, tcp:// by accepting a connection."""

    def is_ready(self, url: str, timeout_s: float) -> bool: ...


class ListeningPorts(Protocol):
    """Says who holds a TCP port."""

    def listeners(self, port: int) -> tuple[Listener, ...]:
        """Give the processes that listen on a loopback port; none when it is free."""
        ...


class Journal(Protocol):
    """Append-only record of an apply: each step before and after."""

    def before(self, index: int, step: str) -> None: ...
    def after(self, index: int, step: str) -> None: ...
    def undone(self, index: int, step: str) -> None: ...
    def finish(self, outcome: str) -> None: ...
    def unfinished(self) -> str | None:
        """Give the step that the last apply had begun when it was killed, None when it finished."""
        ...


class Display(Protocol):
    """Tells a person what is happening."""

    def step(self, index: int, total: int, text: str) -> None: ...
    def progress(self, done: int, total: int) -> None: ...
    def waiting(self, text: str, elapsed_s: float) -> None: ...


class Clock(Protocol):
    """Time, as apply needs it: monotonic seconds, and a wait between polls."""

    def now(self) -> float: ...
    def pause(self, seconds: float) -> None: ...
