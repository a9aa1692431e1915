"""What a machine looks like when plan asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.generation import History, Manifest
from kloros_infra.ir.on_change import Kept
from kloros_infra.ir.running import RunningProcess
from kloros_infra.ir.stop_cause import StopCause


class ActiveState(StrEnum):
    """systemd's ActiveState (org.freedesktop.systemd1(5)), which the embedded supervisor speaks too."""

    ACTIVE = "active"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    INACTIVE = "inactive"
    FAILED = "failed"
    RELOADING = "reloading"
    REFRESHING = "refreshing"
    MAINTENANCE = "maintenance"

    @classmethod
    def _missing_(cls, value: object) -> ActiveState:  # noqa: ARG003 - enum asks with it (enum.Enum._missing_)
        """Take a word of a later systemd for a unit that runs: nothing is started or given away beside it."""
        return cls.ACTIVE


@dataclass(frozen=True, slots=True)
class UnitState:
    """One unit as the service manager reports it.

    `drop_ins` are files of an administrator's that it was loaded with beside its own; a masked unit cannot be started.
    `has_ended` says that it ran, as far back as the manager knows, and ended without failing; when neither an apply of
    ours nor, as far as it has said, the router ended it, `is_stopped_by_hand` holds. `stopped_for` is why the router
    has stopped an instance that would run otherwise, or does not start it.
    """

    unit: str
    active: ActiveState
    sub: str = ""
    main_pid: int = 0
    result: str = "success"
    exit_status: int = 0
    needs_reload: bool = False
    drop_ins: tuple[str, ...] = ()
    is_masked: bool = False
    has_ended: bool = False
    is_stopped_by_hand: bool = False
    stopped_for: StopCause | None = None

    @property
    def is_active(self) -> bool:
        return self.active in (ActiveState.ACTIVE, ActiveState.RELOADING, ActiveState.REFRESHING)

    @property
    def is_up(self) -> bool:
        """Say whether it runs, or is about to."""
        return self.is_active or self.active is ActiveState.ACTIVATING


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that listens on a TCP port; pid 0 and no name when another user's, which cannot be told."""

    pid: int
    name: str = ""
    ancestors: tuple[int, ...] = ()

    def belongs_to(self, main_pid: int) -> bool:
        """Say whether it is that process or a descendant of it."""
        return main_pid > 0 and main_pid in (self.pid, *self.ancestors)


@dataclass(frozen=True, slots=True)
class Installed:
    """What earlier applies put on the machine.

    `digests` maps each path of ours to the digest of what was written there. While an apply runs, and after one
    was killed, `is_unfinished` holds, `owed` names the units that may still run with an old definition, and `staged`
    is the generation that it was to make. `kept` are the processes that were left running by a former definition.
    `is_lost` says that nobody remembers, and the current generation tells what there is of it.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    is_unfinished: bool = False
    owed: frozenset[str] = frozenset()
    staged: int | None = None
    kept: Mapping[str, Kept] = field(default_factory=dict)
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """Files we installed or want to install, units, and weights in the store.

    `files` holds what is at each path of (installed ∪ desired) now; a path that holds nothing is
    absent. `weights` maps a store path to the sha256 recorded when it was verified. A unit that is
    absent from `units` was not asked about: nothing is planned for it. `manifest` is that of the current generation.
    """

    files: Mapping[str, Artifact]
    installed: Installed
    weights: Mapping[str, str]
    units: Mapping[str, UnitState]
    history: History = field(default_factory=History)
    manifest: Manifest | None = None
    running: Mapping[str, RunningProcess] = field(default_factory=dict)
    """The processes of units, where they could be looked at."""
    unreadable: tuple[str, ...] = ()
    """Paths that whoever asks may not look at: nothing is said of them."""
    has_manager: bool = True
    """Whether anybody runs units here: without, files can be compared, and nothing can be started."""
    has_router_said: bool = False
    """Whether the router was asked, and has said, which instances it has stopped: what it has not, somebody has."""
