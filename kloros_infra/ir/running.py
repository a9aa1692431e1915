"""A process as the kernel shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """What a process was started with.

    `environment` holds the variables that were asked for, and None where they may not be seen; `started_s` is
    the moment of its start in seconds since boot.
    """

    pid: int
    argv: tuple[str, ...]
    environment: Mapping[str, str] | None
    started_s: float
    cgroup: str
