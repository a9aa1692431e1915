"""models.lock.yaml: every outside fact that compile needs, pinned.

The Spec classes are the file as written; `Lock` is the value the passes read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationInfo, field_validator

from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.split_gguf import split_set

SHA256_PATTERN = r"^[0-9a-f]{64}$"
MMPROJ_SUFFIX = "+mmproj"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"
MOST_BYTES = 2**50
"""Far beyond any weights, and within what every reader of YAML and JSON takes for a whole number."""
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
SizeBytes = Annotated[NonNegativeInt, Field(le=MOST_BYTES)]


class Origin(StrEnum):
    """Where the facts in a lock entry came from."""

    HUB = "hub"
    PACKAGE = "package"
    FILE = "file"
    DERIVED = "derived"


class LockedFileSpec(BaseModel):
    """One file (or part) of a model's weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    size_bytes: SizeBytes
    sha256: Sha256


class LockedWeightsSpec(BaseModel):
    """One version's weights; `sha256` is of the parts joined, or of a split set's list; absent when derived."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: Origin
    source: tuple[str, ...]
    revision: str | None
    files: tuple[LockedFileSpec, ...]
    size_bytes: SizeBytes
    sha256: Sha256 | None
    header: str
    header_sha256: Sha256

    @field_validator("revision")
    @classmethod
    def _pins_a_commit(cls, revision: str | None, info: ValidationInfo) -> str | None:
        """A branch would move, and the revision becomes part of paths in the hub's cache."""
        if info.data.get("origin") is Origin.HUB and not re.fullmatch(COMMIT_PATTERN, revision or ""):
            raise ValueError("what comes from the hub is pinned to a commit, 40 of the digits 0-9 and a-f")
        return revision


class LockSpec(BaseModel):
    """The whole lock file; keys of `weights` are `<model id>@<version id>`, and that with `+mmproj`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    weights: dict[str, LockedWeightsSpec]


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One pinned file."""

    source: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LockedWeights:
    """One version's pinned weights and what their header says; `source` is what models.yaml says."""

    key: str
    origin: Origin
    source: tuple[str, ...]
    revision: str | None
    files: tuple[LockedFile, ...]
    size_bytes: int
    sha256: str | None
    header: GgufHeader

    @property
    def is_derived(self) -> bool:
        """Say whether the header was computed from a published architecture, not read from the file."""
        return self.origin is Origin.DERIVED

    @property
    def part_count(self) -> int:
        """Say in how many files they are kept: parts of a split GGUF stay apart, others are joined."""
        return len(split_set(self.source) or (1,))


@dataclass(frozen=True, slots=True)
class Pin:
    """What an entry says even where its header is lost: the source, and where on it the files are."""

    source: tuple[str, ...]
    origin: Origin
    revision: str | None


@dataclass(frozen=True, slots=True)
class Lock:
    """All pinned weights, by key."""

    weights: Mapping[str, LockedWeights]


def weights_key(model_id: str, version_id: str) -> str:
    """Name a version's entry in the lock."""
    return f"{model_id}@{version_id}"


def mmproj_key(model_id: str, version_id: str) -> str:
    """Name the entry of a version's projector."""
    return f"{weights_key(model_id, version_id)}{MMPROJ_SUFFIX}"
