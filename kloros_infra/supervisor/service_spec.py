"""How to run a service: the settings that the supervisor honours, with systemd's defaults.

Every other key is left to systemd: sandboxing, resource limits, slices. docs/decisions/0001-embedded-supervisor.md has
the list for users.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.supervisor.command_line import Command

DEFAULT_RESTART_CAP_S = 60.0


class ServiceKind(StrEnum):
    """Type= of a service; all but ONESHOT are run as EXEC, which also notices a program that cannot be executed.

    Of NOTIFY that means that nobody waits for its word: it is not told where to say it (sd_notify(3), $NOTIFY_SOCKET).
    """

    SIMPLE = "simple"
    EXEC = "exec"
    NOTIFY = "notify"
    ONESHOT = "oneshot"


class Restart(StrEnum):
    """Restart= of a service."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class KillMode(StrEnum):
    """Who gets SIGTERM; SIGKILL goes to the whole process group in each mode."""

    CONTROL_GROUP = "control-group"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """How to run a service; a timeout of None never passes. Defaults are systemd's."""

    unit: str
    start: tuple[Command, ...]
    start_pre: tuple[Command, ...] = ()
    start_post: tuple[Command, ...] = ()
    kind: ServiceKind = ServiceKind.SIMPLE
    remain_after_exit: bool = False
    restart: Restart = Restart.NO
    restart_s: float = 0.1
    restart_cap_s: float = DEFAULT_RESTART_CAP_S
    start_limit_interval_s: float = 10.0
    start_limit_burst: int = 5
    timeout_start_s: float | None = 90.0
    timeout_stop_s: float | None = 90.0
    kill_mode: KillMode = KillMode.CONTROL_GROUP
    success_statuses: frozenset[int] = frozenset()
    environment: tuple[tuple[str, str], ...] = ()
    environment_files: tuple[EnvironmentFile, ...] = ()
    working_directory: str | None = None
    umask: int = 0o022
    assert_paths: tuple[str, ...] = ()

    def commands(self, role: str) -> tuple[Command, ...]:
        """Give the commands under `ExecStartPre`, `ExecStart` or `ExecStartPost`."""
        return {"ExecStartPre": self.start_pre, "ExecStart": self.start, "ExecStartPost": self.start_post}[role]


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A file of variables; with `may_be_absent` (prefix `-`) it is used if it is there."""

    path: str
    may_be_absent: bool = False
