"""Settings of unit and env files by name, and which of them a running unit must be restarted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType

from kloros_infra.ir.plan import KeyChange

ENVIRONMENT_FILE = "Service.EnvironmentFile"


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

KEPT_UNITS = 8192
"""A plan reads each unit some ten times, and this is most of its work: so many are read once."""

SECRET_NAME = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)


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
    lines: list[str] = []
    is_continued = False
    for raw in text.splitlines():
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


def env_keys(text: str) -> dict[str, str]:
    """Read an env file as name → value as written, quotes and all; see systemd.exec(5), EnvironmentFile=."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            found[name.strip()] = value.strip()
    return found


def unquoted(value: str) -> str:
    """Drop one pair of single quotes, in which our env files write every value."""
    is_quoted = len(value) >= 2 and value[0] == value[-1] == "'"
    return value[1:-1] if is_quoted else value


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
    if section in RELOAD_ONLY_SECTIONS:
        return Effect.RELOAD
    return Effect.LIVE if name in LIVE_KEYS else Effect.RESTART


def restart_keys(before: str, after: str) -> frozenset[str]:
    """List the settings for which a unit that runs by `before` must be restarted to run by `after`."""
    changes = key_changes(unit_keys(before), unit_keys(after))
    return frozenset(change.key for change in changes if effect_of(change.key) is Effect.RESTART)


def environment_files(text: str) -> tuple[str, ...]:
    """List the absolute paths of the env files that a unit reads."""
    value = unit_keys(text).get(ENVIRONMENT_FILE, "")
    return tuple(path.removeprefix("-") for path in value.split("\n") if path)


def program(text: str) -> str:
    """Say which program a service runs, "" when it runs none; prefixes as in systemd.service(5), table 1."""
    command = unit_keys(text).get("Service.ExecStart", "").lstrip("@-:+!|")
    return command.split(maxsplit=1)[0].strip('"') if command else ""


def is_secret(name: str) -> bool:
    """Say whether a setting's value must not be shown; `…_KEY_FILE` only names a file, and may be."""
    return bool(SECRET_NAME.search(name))
