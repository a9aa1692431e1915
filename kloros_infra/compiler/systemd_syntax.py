"""Quoting for unit and env files: each value is quoted once, here, at the last moment.

No value ever needs a control character or a noncharacter, so every function refuses them with ValueError: that one
rule keeps a value on its line, and the line itself, in all of systemd's parsers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kloros_infra.ir.written import NONCHARACTERS

# Neither a control character, nor what str.splitlines takes for the end of a line, nor what systemd takes for no text.
CONTROL = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029{NONCHARACTERS}]")
PLAIN_WORD = re.compile(r"[A-Za-z0-9_@:,.=/+-]+")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def exec_start(words: Sequence[str]) -> str:
    """Write a command for Exec*=; the prefix `:` turns $-expansion off, so that `$` stands for itself.

    systemd.service(5), "Command lines" and table 1. The words of such a line must not double their `$`.
    """
    return ":" + " ".join(exec_word(word) for word in words)


def exec_word(word: str) -> str:
    r"""Quote one word of a line that `exec_start` writes.

    systemd.service(5), "Command lines": quotes group, `\\` and `\"` are C escapes, `%%` is a percent sign. A word of
    plain characters stays bare; a lone `;` would separate commands, so it is quoted too.
    """
    return word if PLAIN_WORD.fullmatch(word) else quoted_word(word)


def quoted_word(word: str) -> str:
    """Quote one word whether it needs it or not."""
    text = _one_line(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_without_specifiers(text)}"'


def unit_value(value: str) -> str:
    """Escape the whole right side of a setting that is not split into words.

    systemd.syntax(7): blanks at both ends are dropped and a backslash at the end joins the next line, so neither can
    be written and both are refused. systemd.unit(5), "Specifiers": `%%` is a percent sign.
    """
    if value != value.strip() or value.endswith("\\"):
        raise ValueError(f"a setting can neither begin nor end with a blank, nor end with a backslash: {value!r}")
    return _without_specifiers(_one_line(value))


def env_value(value: str) -> str:
    r"""Quote a value for EnvironmentFile=.

    systemd.exec(5): single quotes take everything literally but have no escape for themselves; between double quotes
    a backslash escapes `"`, `\`, `` ` `` and `$`. A shell reads both forms the same way.
    """
    if "'" not in _one_line(value):
        return f"'{value}'"
    return '"' + re.sub(r'(["\\`$])', r"\\\1", value) + '"'


def env_lines(variables: Mapping[str, str]) -> Iterable[str]:
    """Write variables as lines of an env file, by name; ValueError for a name that systemd would drop."""
    for name, value in sorted(variables.items()):
        if not VARIABLE_NAME.fullmatch(name):
            raise ValueError(f"not a variable name: {name!r}")
        yield f"{name}={env_value(value)}"


def _without_specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _one_line(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError(f"control characters and noncharacters cannot be written into unit files: {text!r}")
    return text
