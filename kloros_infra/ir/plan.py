"""What differs and what to do about it; the executor reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.artifact import Artifact, ArtifactTree
from kloros_infra.ir.drift import Drift
from kloros_infra.ir.exposure import ExposureChange
from kloros_infra.ir.gate import InstanceGate
from kloros_infra.ir.generation import Manifest
from kloros_infra.ir.impact import Impact
from kloros_infra.ir.observed import Installed
from kloros_infra.ir.on_change import Deferral, OnChange
from kloros_infra.ir.place_weights import PlaceWeights


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

    `unit_action` says what happens to the unit ("start", "restart", "reload", "change live", "stop", or "nothing")
    and `seconds` about how long that takes; it is empty for what is no unit, or not running. `hidden` counts the keys
    that are not listed because they do not differ, `ignored` names those that differ and cause nothing. A harmless
    change puts back what was changed on the machine without any effect. `on_change` is the word for which a running
    unit is left as it is ("deferred"); `exposure` is there when a service can reach more or less than before.
    """

    address: str
    action: Action
    reason: str
    keys: tuple[KeyChange, ...] = ()
    unit_action: str = ""
    seconds: float = 0.0
    hidden: int = 0
    ignored: tuple[str, ...] = ()
    is_harmless: bool = False
    on_change: OnChange | None = None
    exposure: ExposureChange | None = None


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
class StageGeneration:
    """Put a generation beside the others, whole or not at all; `tree` has paths as seen from its folder."""

    number: int
    tree: ArtifactTree
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class VerifyGeneration:
    """Read a staged generation back, and have its units checked, before anything that runs is touched.

    Without a limit its exposure is not held against one: it was when the generation was made.
    """

    number: int
    exposure_limit: float | None = None


@dataclass(frozen=True, slots=True)
class FlipCurrent:
    """Make a generation, or none, the current one: the point from which the machine is as desired."""

    number: int | None


@dataclass(frozen=True, slots=True)
class MarkLastGood:
    """Note that a generation, all of whose units answered, is the one to go back to."""

    number: int | None


@dataclass(frozen=True, slots=True)
class RemoveGeneration:
    """Take a generation's folder away; not undone, so it is only ever planned for what nobody goes back to."""

    number: int


@dataclass(frozen=True, slots=True)
class ResetFailed:
    """Have the service manager forget earlier failures and start limits of units that are about to start."""

    units: tuple[str, ...]


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
    """Wait until a started unit answers on `url` with 200 and passes its gate, or fail with its last log lines."""

    unit: str
    url: str
    timeout_s: float
    gate: InstanceGate | None = None


@dataclass(frozen=True, slots=True)
class CheckRunning:
    """Look once more at units that were started: each must be up still, as the process that it was when it was ready.

    While the later ones start, memory may run out under the earlier ones, or a server ends at its first request.
    """

    units: tuple[str, ...]


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
    | StageGeneration
    | VerifyGeneration
    | FlipCurrent
    | MarkLastGood
    | RemoveGeneration
    | ReloadManager
    | ResetFailed
    | StartUnit
    | RestartUnit
    | StopUnit
    | AwaitReady
    | CheckRunning
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
    impact: Impact = field(default_factory=Impact)
    drift: tuple[Drift, ...] = ()
    deferred: tuple[Deferral, ...] = ()
    """Units that go on running by former settings, whether since now or since an earlier plan."""
    only: tuple[str, ...] = ()
    """Addresses that the plan is limited to; none for a whole one."""
    is_destroy: bool = False

    @property
    def is_empty(self) -> bool:
        """Say whether nothing differs that matters.

        There may still be steps: they bring our own records up to date, and put files back that say the same.
        """
        return all(change.is_harmless for change in self.changes)
