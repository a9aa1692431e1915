"""What a machine looks like when plan asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.ir.artifact import Artifact


class ActiveState(StrEnum):
    """systemd's ActiveState, which the embedded supervisor speaks too."""

    ACTIVE = "active"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    INACTIVE = "inactive"
    FAILED = "failed"
    RELOADING = "reloading"


@dataclass(frozen=True, slots=True)
class UnitState:
    """One unit as the service manager reports it."""

    unit: str
    active: ActiveState
    sub: str = ""
    main_pid: int = 0
    result: str = "success"
    exit_status: int = 0
    needs_reload: bool = False

    @property
    def is_active(self) -> bool:
        return self.active in (ActiveState.ACTIVE, ActiveState.RELOADING)


@dataclass(frozen=True, slots=True)
class Observed:
    """Files we installed or want to install, units, and weights in the store.

    `files` holds what is at each path of (installed ∪ desired) now; a path that holds nothing is
    absent. `installed` holds the paths that an earlier apply recorded as ours. `weights` maps a
    store path to the sha256 recorded when it was verified. `units` is empty where no service
    manager was asked.
    """

    files: Mapping[str, Artifact]
    installed: frozenset[str]
    weights: Mapping[str, str]
    units: Mapping[str, UnitState]
