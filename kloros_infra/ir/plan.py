"""What differs and what to do about it; the executor reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.observed import Installed


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

    `unit_action` says what happens to the unit ("start", "restart", "stop", or nothing) and `seconds` about how
    long that takes. `hidden` counts the keys that are not listed because they do not differ.
    """

    address: str
    action: Action
    reason: str
    keys: tuple[KeyChange, ...] = ()
    unit_action: str = ""
    seconds: float = 0.0
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file in the store: its sources joined in order."""

    path: str
    sources: tuple[str, ...]
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PlaceWeights:
    """Bring verified weights into the store, sha256 checked on the way: one file, or all of a split GGUF.

    `sha256` is that of the lock's entry: of the one file, or of the set (`ir.split_gguf`).
    """

    key: str
    revision: str | None
    files: tuple[StoredFile, ...]
    sha256: str

    @property
    def destination(self) -> str:
        """Give the path that a server is given, and by which the store knows the weights."""
        return self.files[0].path

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(source for file in self.files for source in file.sources)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


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
    """Stop a running unit and start it with its new definition."""

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
    """Remember what is ours from now on.

    Stands before the first write (all paths, old and new, and the restarts that are owed) and at the end (what is
    there now), so that a run that is killed in between leaves no file that looks like somebody else's.
    """

    installed: Installed


@dataclass(frozen=True, slots=True)
class RemoveWeights:
    """Take weights, all of their files, out of the store: the one step that cannot be undone, so it comes last."""

    destination: str


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
    | RemoveWeights
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes for people, steps for the executor, ports that must be free, all in order."""

    changes: tuple[Change, ...]
    steps: tuple[Step, ...]
    unchanged: int = 0
    ports: tuple[tuple[int, str], ...] = ()
    """Ports that a unit started by this plan will bind, and that unit: checked before the first step."""
    refusals: Problems = ()
    """Why apply will not carry this plan out: it can be shown all the same."""

    @property
    def is_empty(self) -> bool:
        """Say whether nothing differs; there may still be steps that only bring our own records up to date."""
        return not self.changes
