"""A unit's files and its running process → what differs between the two.

systemd notices neither a changed EnvironmentFile= nor a unit that was edited, reloaded and never restarted; the
process itself shows what it was started with. Intended is what our own files say, in the forms that we write them in
(`compiler.systemd_syntax`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.ir.plan import KeyChange
from kloros_infra.ir.running import RunningProcess
from kloros_infra.planner.unit_keys import env_keys, is_secret, unit_keys

ARGUMENTS = "arguments"
STEERING_PREFIXES = ("LLAMA_ARG_", "CUDA_", "GGML_", "MTMD_")
"""Variables that change what llama-server does: of these, one that nobody intended is drift as well."""

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class IntendedProcess:
    """What a unit's process is to be started with: its words after the program's name, and its variables."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


def intended_process(unit_text: str, env_text: str) -> IntendedProcess:
    """Read what a unit file and its env file of ours say."""
    command = unit_keys(unit_text).get("Service.ExecStart", "").removeprefix(":")
    variables = {name: _env_value(value) for name, value in env_keys(env_text).items()}
    return IntendedProcess(tuple(map(_word, _WORD.finditer(command)))[1:], variables)


def running_drift(intended: IntendedProcess, process: RunningProcess) -> tuple[KeyChange, ...]:
    """List what the process runs with (before) and should (after); variables that may not be seen are left out.

    Words are compared from their end: a launcher, and the interpreter of a script, stand before them.
    """
    found = []
    count = len(intended.words)
    words = process.argv[len(process.argv) - count :] if count else ()
    if words != intended.words:
        # Where there are fewer words than there should be, all but the program's are shown.
        shown = words or process.argv[1:]
        found.append(KeyChange(ARGUMENTS, " ".join(shown), " ".join(intended.words)))
    return (*found, *_environment_drift(intended.environment, process.environment))


def _environment_drift(intended: Mapping[str, str], running: Mapping[str, str] | None) -> tuple[KeyChange, ...]:
    if running is None:
        return ()
    unasked = {name for name in running if name.startswith(STEERING_PREFIXES)}
    names = sorted(name for name in intended.keys() | unasked if not is_secret(name))
    return tuple(
        KeyChange(name, running.get(name), intended.get(name))
        for name in names
        if running.get(name) != intended.get(name)
    )


def _word(found: re.Match[str]) -> str:
    quoted, plain = found.groups()
    text = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
    return text.replace("%%", "%")


def _env_value(value: str) -> str:
    """Read a value in single quotes as it stands, and one in double quotes without its backslashes; systemd.exec(5)."""
    is_quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    if not is_quoted:
        return value
    return value[1:-1] if value[0] == "'" else re.sub(r'\\(["\\`$])', r"\1", value[1:-1])
