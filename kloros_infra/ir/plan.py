"""What differs and what to do about it; the executor reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.ir.artifact import Artifact


class Action(StrEnum):
    """What happens to one address."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    START = "start"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One setting that differs; None stands for absent."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One address that differs: an instance, a service, a target, a file, a program, weights.

    `unit_action` says what happens to the running unit ("start", "restart, about 4 s", "stop", "").
    """

    address: str
    action: Action
    reason: str
    keys: tuple[KeyChange, ...] = ()
    unit_action: str = ""


@dataclass(frozen=True, slots=True)
class PlaceWeights:
    """Bring verified weights into the store: parts joined in order, sha256 checked on the way."""

    key: str
    sources: tuple[str, ...]
    revision: str | None
    destination: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class WriteArtifact:
    """Put a file or link in place atomically."""

    path: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class RemoveArtifact:
    """Take a file or link of ours away."""

    path: str


@dataclass(frozen=True, slots=True)
class ReloadManager:
    """Have the service manager read its unit files again."""


@dataclass(frozen=True, slots=True)
class StartUnit:
    """Start a unit that is not running."""

    unit: str


@dataclass(frozen=True, slots=True)
class RestartUnit:
    """Stop a unit with its old definition and start it with the new one."""

    unit: str


@dataclass(frozen=True, slots=True)
class StopUnit:
    """Stop a running unit."""

    unit: str


@dataclass(frozen=True, slots=True)
class AwaitReady:
    """Wait until a started unit answers on `url` with 200, or fail with its last log lines."""

    unit: str
    url: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class RecordInstalled:
    """Remember which paths are ours from now on."""

    paths: tuple[str, ...]


Step = (
    PlaceWeights
    | WriteArtifact
    | RemoveArtifact
    | ReloadManager
    | StartUnit
    | RestartUnit
    | StopUnit
    | AwaitReady
    | RecordInstalled
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes for people, steps for the executor, ports that must be free, all in order."""

    changes: tuple[Change, ...]
    steps: tuple[Step, ...]
    unchanged: int = 0
    ports: tuple[tuple[int, str], ...] = ()
    """Ports that a unit started by this plan will bind, and that unit: checked before the first step."""

    @property
    def is_empty(self) -> bool:
        return not self.changes
