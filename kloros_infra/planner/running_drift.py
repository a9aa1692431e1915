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
from kloros_infra.ir.unit_keys import unit_keys
from kloros_infra.planner.redaction import is_secret, redacted_value, redacted_words

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


def intended_process(unit_text: str, environment: Mapping[str, str]) -> IntendedProcess:
    """Read what a unit file of ours says; its env files are read already."""
    command = unit_keys(unit_text).get("Service.ExecStart", "").removeprefix(":")
    return IntendedProcess(tuple(map(_word, _WORD.finditer(command)))[1:], environment)


def running_drift(intended: IntendedProcess, process: RunningProcess) -> tuple[KeyChange, ...]:
    """List what the process runs with (before) and should (after); variables that may not be seen are left out.

    Words are compared from their end: a launcher, and the interpreter of a script, stand before them.
    """
    found = []
    count = len(intended.words)
    words = process.argv[len(process.argv) - count :] if count else ()
    if words != intended.words:
        # Where there are fewer words than there should be, all but the program's are shown.
        # What follows an option named like a secret is known by it, though the option is not among the last words.
        shown = redacted_words(process.argv)[-count if words else 1 :]
        found.append(KeyChange(ARGUMENTS, " ".join(shown), " ".join(redacted_words(intended.words))))
    return (*found, *_environment_drift(intended.environment, process.environment))


def _environment_drift(intended: Mapping[str, str], running: Mapping[str, str] | None) -> tuple[KeyChange, ...]:
    if running is None:
        return ()
    unasked = {name for name in running if name.startswith(STEERING_PREFIXES)}
    names = sorted(name for name in intended.keys() | unasked if not is_secret(name))
    return tuple(
        KeyChange(name, *(value and redacted_value(name, value) for value in (running.get(name), intended.get(name))))
        for name in names
        if running.get(name) != intended.get(name)
    )


def _word(found: re.Match[str]) -> str:
    quoted, plain = found.groups()
    text = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
    return text.replace("%%", "%")
