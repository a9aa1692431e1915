"""Generations: what one holds and aims at, and which of them a machine keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.gate import InstanceGate
from kloros_infra.ir.place_weights import PlaceWeights

SERVICE_TIMEOUT_S = 30.0
"""The bus and the router import Python and bind sockets; nothing else."""


class Run(StrEnum):
    """Whether a unit runs: always, when something asks for it, or not now."""

    ALWAYS = "always"
    ON_DEMAND = "on demand"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class DesiredUnit:
    """A unit, how to tell that it is ready, and what it needs: ports, weights (store paths), bytes to load.

    `profile` is the one that the unit belongs to, empty when it belongs to all; `further_profiles` share it.
    `run_in_profile` says whether it runs while one of them is active, and `run` whether it does now. `gate` is what a
    server must pass beside being ready.
    `is_stopped_idle` holds where the router stops it while nobody uses it, and starts it for a request.
    """

    unit: str
    run: Run
    ready_url: str | None = None
    timeout_s: float = SERVICE_TIMEOUT_S
    ports: tuple[int, ...] = ()
    weights: tuple[str, ...] = ()
    load_bytes: int = 0
    profile: str = ""
    run_in_profile: Run = Run.ALWAYS
    gate: InstanceGate | None = None
    is_stopped_idle: bool = False
    further_profiles: tuple[str, ...] = ()

    @property
    def profiles(self) -> tuple[str, ...]:
        """Name those that it belongs to, none when it belongs to all."""
        return (self.profile, *self.further_profiles) if self.profile else ()

    def under(self, profile: str) -> DesiredUnit:
        """Say how the unit runs while `profile` is active."""
        if not self.profile:
            return self
        return replace(self, run=self.run_in_profile if profile in self.profiles else Run.NEVER)


@dataclass(frozen=True, slots=True)
class Provenance:
    """When a generation was made, and from what; the commit is empty outside a Git repository.

    `models_file` is where models.yaml was, so that a plan can be made from it again.
    """

    made_at: str = ""
    tool_version: str = ""
    models_sha256: str = ""
    lock_sha256: str = ""
    commit: str = ""
    models_file: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that going to a generation takes, without models.yaml.

    `files` maps each file of the generation, as seen from its folder, to its digest; `fixed` holds the files outside
    of it that belong to it.
    """

    number: int
    provenance: Provenance
    profile: str
    files: Mapping[str, str]
    fixed: Mapping[str, Artifact]
    units: tuple[DesiredUnit, ...] = ()
    weights: tuple[PlaceWeights, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation as it lies on the disk: its manifest, and its files as seen from its folder."""

    manifest: Manifest
    files: Mapping[str, Artifact]


@dataclass(frozen=True, slots=True)
class History:
    """The generations that a machine keeps, in order; each of the marks may be missing.

    `is_current_foreign` says that something which is none of ours stands where the link to the current one belongs.
    """

    numbers: tuple[int, ...] = ()
    current: int | None = None
    last_good: int | None = None
    booted: int | None = None
    is_current_foreign: bool = False

    @property
    def marked(self) -> frozenset[int]:
        """Give those that must not be removed."""
        return frozenset(number for number in (self.current, self.last_good, self.booted) if number is not None)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An apply that did not end: the step that it had begun, when, and between which generations.

    Both are None as well where the journal does not say it: `has_ends` tells.
    """

    step: str
    at: str = ""
    previous: int | None = field(default=None)
    goal: int | None = field(default=None)
    has_ends: bool = False

    @property
    def is_first_or_last(self) -> bool:
        """Say whether it made the first generation, or took away the last: then none may rightly be current."""
        return self.has_ends and None in (self.previous, self.goal)
