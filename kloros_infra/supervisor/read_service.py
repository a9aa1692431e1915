"""UnitFile → ServiceSpec, with every reason why the unit cannot be run here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.supervisor.command_line import (
    SyntaxProblemError,
    expand_specifiers,
    parse_commands,
    parse_environment,
)
from kloros_infra.supervisor.problems import unit_unusable
from kloros_infra.supervisor.service_spec import (
    DEFAULT_RESTART_CAP_S,
    EnvironmentFile,
    KillMode,
    Restart,
    ServiceKind,
    ServiceSpec,
)
from kloros_infra.supervisor.unit_file import Setting, UnitFile

# systemd.time(7), "Parsing time spans", in seconds; a bare number is seconds.
TIME_UNITS = {
    "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3,
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
BOOLEANS = {"1": True, "yes": True, "y": True, "true": True, "t": True, "on": True,
            "0": False, "no": False, "n": False, "false": False, "f": False, "off": False}  # fmt: skip

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Reading:
    """Reads typed settings of one unit's [Service] and [Unit], collecting every problem on the way."""

    def __init__(self, file: UnitFile, specifiers: Mapping[str, str]) -> None:
        self.file = file
        self.specifiers = specifiers
        self.problems: list[Diagnostic] = []

    def one(self, key: str, read: Callable[[str], T], default: T, *, section: str = "Service") -> T:
        """Read the setting that wins, or give the default."""
        setting = self.file.last(section, key)
        values = () if setting is None else self.parsed((setting,), read)
        return values[0] if values else default

    def each(self, key: str, read: Callable[[str], tuple[T, ...]], *, section: str = "Service") -> tuple[T, ...]:
        """Read every setting of a repeated key, joined."""
        return tuple(item for items in self.parsed(self.file.all(section, key), read) for item in items)

    def timeout(self, key: str, default: float | None) -> float | None:
        """Read a time span of [Service] that may be endless."""
        return self.one(key, seconds, default)

    def parsed(self, settings: tuple[Setting, ...], read: Callable[[str], T]) -> tuple[T, ...]:
        values: list[T] = []
        for setting in settings:
            try:
                values.append(read(setting.value))
            except ValueError as error:
                reason = f"{setting.key}={setting.value}: {error}."
                self.problems.append(unit_unusable(self.file.name, reason, self.file.span(setting)))
        return tuple(values)


def read_service(file: UnitFile, specifiers: Mapping[str, str]) -> tuple[ServiceSpec, Problems]:
    """Read how to run a service, with everything that stands in the way of running it here."""
    reading = Reading(file, specifiers)
    restart_s = reading.one("RestartSec", required_seconds, 0.1)
    kind = reading.one("Type", one_of(ServiceKind), ServiceKind.SIMPLE)
    spec = ServiceSpec(
        unit=file.name,
        start=reading.each("ExecStart", lambda text: parse_commands(text, specifiers)),
        start_pre=reading.each("ExecStartPre", lambda text: parse_commands(text, specifiers)),
        start_post=reading.each("ExecStartPost", lambda text: parse_commands(text, specifiers)),
        kind=kind,
        remain_after_exit=reading.one("RemainAfterExit", boolean, False),
        restart=reading.one("Restart", one_of(Restart), Restart.NO),
        restart_s=restart_s,
        restart_cap_s=max(restart_s, reading.one("RestartMaxDelaySec", required_seconds, DEFAULT_RESTART_CAP_S)),
        start_limit_interval_s=reading.one("StartLimitIntervalSec", required_seconds, 10.0, section="Unit"),
        start_limit_burst=reading.one("StartLimitBurst", int, 5, section="Unit"),
        # systemd.service(5): a oneshot has no start timeout unless one is set.
        timeout_start_s=reading.timeout("TimeoutStartSec", None if kind is ServiceKind.ONESHOT else 90.0),
        timeout_stop_s=reading.timeout("TimeoutStopSec", 90.0),
        kill_mode=reading.one("KillMode", one_of(KillMode), KillMode.CONTROL_GROUP),
        success_statuses=frozenset(reading.each("SuccessExitStatus", statuses)),
        environment=reading.each("Environment", lambda text: parse_environment(text, specifiers)),
        environment_files=reading.each("EnvironmentFile", lambda text: (environment_file(text, specifiers),)),
        working_directory=reading.one("WorkingDirectory", lambda text: absolute(text, specifiers), None),
        umask=reading.one("UMask", lambda text: int(text, 8), 0o022),
        assert_paths=reading.each("AssertPathExists", lambda text: (absolute(text, specifiers),), section="Unit"),
    )
    return spec, (*reading.problems, *number_of_commands(spec))


def number_of_commands(spec: ServiceSpec) -> Problems:
    """Check that there is exactly one main command, or at least one for a oneshot."""
    if len(spec.start) == 1 or (spec.kind is ServiceKind.ONESHOT and spec.start):
        return ()
    wanted = "at least one ExecStart=" if spec.kind is ServiceKind.ONESHOT else "exactly one ExecStart="
    return (unit_unusable(spec.unit, f"Type={spec.kind} needs {wanted}, this has {len(spec.start)}."),)


def one_of(choices: type[E]) -> Callable[[str], E]:
    """Make a reader that names the choices in its complaint."""

    def read(text: str) -> E:
        if text not in set(choices):
            raise ValueError(f"known here are {', '.join(choices)}")
        return choices(text)

    return read


def seconds(text: str) -> float | None:
    """Read a time span such as `2min 30s`; None for `infinity`."""
    if text == "infinity":
        return None
    parts = re.findall(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)", text)
    if not re.fullmatch(r"(?:\s*\d+(?:\.\d+)?\s*[a-z]*)+\s*", text) or any(unit not in TIME_UNITS for _, unit in parts):
        raise ValueError("not a time span such as 500ms, 30 or 2min 30s")
    return sum(float(number) * TIME_UNITS[unit] for number, unit in parts)


def required_seconds(text: str) -> float:
    """Read a time span that has an end."""
    value = seconds(text)
    if value is None:
        raise ValueError("infinity makes no sense here")
    return value


def boolean(text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise ValueError("neither yes nor no")
    return BOOLEANS[text.lower()]


def statuses(text: str) -> tuple[int, ...]:
    """Read exit statuses; names of signals and statuses are not known here."""
    if not all(re.fullmatch(r"\d{1,3}", word) and int(word) <= 255 for word in text.split()):
        raise ValueError("only numbers from 0 to 255 are known here")
    return tuple(int(word) for word in text.split())


def absolute(text: str, specifiers: Mapping[str, str]) -> str:
    path = expand_specifiers(text, specifiers)
    if not path.startswith("/"):
        raise SyntaxProblemError("not an absolute path")
    return path


def environment_file(text: str, specifiers: Mapping[str, str]) -> EnvironmentFile:
    may_be_absent = text.startswith("-")
    return EnvironmentFile(absolute(text.removeprefix("-"), specifiers), may_be_absent)
