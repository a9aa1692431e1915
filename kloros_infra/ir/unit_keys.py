"""Settings of unit and env files by name, and which of them a running unit must be restarted for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType

from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.ir.plan import KeyChange

ENVIRONMENT_FILE = "Service.EnvironmentFile"
EXEC_START = "Service.ExecStart"
WEIGHTS_KEY = "Unit.X-Kloros-Weights"
"""The digests of all that an instance loads: an apply that ended early may have replaced weights and no unit."""


class Effect(IntEnum):
    """How a changed setting reaches a running unit, the mildest first."""

    NONE = 0
    RELOAD = 1
    LIVE = 2
    RESTART = 3


# Said to people or to us, not to the process; [X-…] sections and X-… keys are ours (systemd.unit(5)).
SAYING_ONLY = frozenset({"Description", "Documentation", "SourcePath"})
# [Unit] and [Install] describe relations to other units, and conditions that are checked at the next start.
RELOAD_ONLY_SECTIONS = frozenset({"Unit", "Install"})
# systemd.resource-control(5). While it reads unit files again, systemd writes such settings anew to the cgroup of every
# running unit (src/core/unit-serialize.c, unit_deserialize_state). `set-property` would do so too, and leave a drop-in
# that hides what later unit files say.
LIVE_KEYS = frozenset({"CPUWeight", "IOWeight", "MemoryHigh", "MemoryMax", "TasksMax"})
# systemd.service(5) and systemd.kill(5): what the manager does once a process ends, or to end it. It reads them from
# the definition that it has loaded by then, and so does the embedded supervisor.
MANAGER_KEYS = frozenset(
    {
        "KillMode",
        "Restart",
        "RestartMaxDelaySec",
        "RestartMode",
        "RestartSec",
        "RestartSteps",
        "SuccessExitStatus",
        "TimeoutStopSec",
    }
)

KEPT_UNITS = 8192
"""A plan reads each unit some ten times, and this is most of its work: so many are read once."""


@lru_cache(maxsize=KEPT_UNITS)
def unit_keys(text: str) -> Mapping[str, str]:
    """Read a unit file as `Section.Key` → value; see systemd.syntax(7).

    Lines that end in a backslash go on, comments are dropped even between continued lines, and repeated keys keep
    their order, one value to a line.
    """
    values: dict[str, list[str]] = {}
    section = ""
    for line in _joined_lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            values.setdefault(f"{section}.{key.strip()}", []).append(value.strip())
    return MappingProxyType({key: "\n".join(lines) for key, lines in values.items()})


def _joined_lines(text: str) -> list[str]:
    if "\\" not in text:
        # So are nearly all units, and a plan reads thousands of them.
        return [line for raw in text.split("\n") if (line := raw.strip()) and not line.startswith(("#", ";"))]
    lines: list[str] = []
    is_continued = False
    # Only \n ends a line: str.splitlines would also cut at characters that may stand in a value.
    for raw in text.split("\n"):
        stripped = raw.strip()
        if stripped.startswith(("#", ";")):
            continue
        goes_on = stripped.endswith("\\")
        part = stripped[:-1] + " " if goes_on else stripped
        if is_continued:
            lines[-1] += part
        else:
            lines.append(part)
        is_continued = goes_on
    return [line.strip() for line in lines if line.strip()]


@lru_cache(maxsize=KEPT_UNITS)
def env_keys(text: str) -> Mapping[str, str]:
    """Read an env file as name → value, as the process gets it, however it is spelled."""
    return MappingProxyType(parse_environment_file(text))


def key_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[KeyChange, ...]:
    """List the settings that differ, by name."""
    names = sorted(before.keys() | after.keys())
    return tuple(
        KeyChange(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def effect_of(key: str) -> Effect:
    """Say how a changed key reaches a running unit."""
    section, _, name = key.partition(".")
    if section.startswith("X-") or name.startswith("X-") or name in SAYING_ONLY:
        return Effect.NONE
    if section in RELOAD_ONLY_SECTIONS or name in MANAGER_KEYS:
        return Effect.RELOAD
    return Effect.LIVE if name in LIVE_KEYS else Effect.RESTART


def restart_keys(before: str, after: str) -> frozenset[str]:
    """List the settings for which a unit that runs by `before` must be restarted to run by `after`."""
    changes = key_changes(unit_keys(before), unit_keys(after))
    return frozenset(change.key for change in changes if effect_of(change.key) is Effect.RESTART)


def started_by(text: str) -> Mapping[str, str]:
    """Keep of a unit file what a process reads as it starts, and the digests of what it loads."""
    return {
        key: value for key, value in unit_keys(text).items() if key == WEIGHTS_KEY or effect_of(key) is Effect.RESTART
    }


def environment_files(text: str) -> tuple[str, ...]:
    """List the absolute paths of the env files that a unit reads."""
    value = unit_keys(text).get(ENVIRONMENT_FILE, "")
    return tuple(path.removeprefix("-") for path in value.split("\n") if path)


def program(text: str) -> str:
    """Say which program a service runs, "" when it runs none; prefixes as in systemd.service(5), table 1."""
    command = unit_keys(text).get(EXEC_START, "").lstrip("@-:+!|")
    return command.split(maxsplit=1)[0].strip('"') if command else ""
