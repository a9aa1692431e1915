"""What happens to an instance that runs while its settings change, and what one that goes on running runs by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

ON_CHANGE_KEY = "X-Kloros-OnChange"
"""The key of a unit file that carries the word."""


class OnChange(StrEnum):
    """When a running instance takes up settings that a process reads only as it starts."""

    RESTART = "restart"
    RELOAD = "reload"
    DEFER = "defer"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Definition:
    """What a process is started by: its unit's text, its variables, its program, and its weights by store path.

    Program and weights are told by digests.
    """

    unit: str
    environment: Mapping[str, str]
    program: str
    weights: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """A process that goes on by a former definition; number and start tell it from the ones that follow it.

    `started_s` counts from the boot; it is None where the process could not be looked at.
    """

    main_pid: int
    started_s: float | None
    definition: Definition


@dataclass(frozen=True, slots=True)
class Deferral:
    """One unit that plan leaves running by former settings, and which of them differ."""

    address: str
    on_change: OnChange
    reason: str
